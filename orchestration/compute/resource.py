"""Where the heavy steps compute: on this machine, or on a Ray cluster."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field
from upath import UPath

from ml.processors import Each
from ml.training.reports import BatchReport, EpochReport
from orchestration.config.compute_config import COMPUTED_BY, LOCAL, ComputeConfig, Place
from orchestration.config.settings import PROJECT_ROOT, settings

if TYPE_CHECKING:
    from ml.training.checkpoint import Checkpoint
    from ml.training.fitting import Fitting
    from orchestration.compute.ray_engine import RayEngine

_ABOUT = {name: str(field.description) for name, field in ComputeConfig.model_fields.items()}


class Compute(dg.ConfigurableResource):
    """Where heavy steps compute. Defaults: compute.yaml; the Launchpad shows and changes them for one run."""

    compute: Place = Field(description=_ABOUT["compute"])
    address: str = Field(description=_ABOUT["address"])
    workers: int = Field(ge=1, description=_ABOUT["workers"])
    cpus_per_worker: int = Field(ge=1, description=_ABOUT["cpus_per_worker"])
    scores_from: int = Field(ge=0, description=_ABOUT["scores_from"])
    storage: str | None = Field(default=None, description=_ABOUT["storage"])

    @classmethod
    def of(cls, config: ComputeConfig) -> "Compute":
        """The resource with the settings of compute.yaml."""
        return cls(**config.model_dump())

    @property
    def each(self) -> Each | None:
        """Does independent work on other machines; None: work is done here. Raises dagster.Failure without Ray."""
        return None if self.compute == LOCAL else self._engine()

    def each_of(self, rows: int) -> Each | None:
        """As ``each``, for scores of so many rows."""
        return self.each if rows >= self.scores_from else None

    def is_remote(self, fitting: "Fitting") -> bool:
        """Whether a training runs on a cluster: one whose result does not depend on the number of workers."""
        return self.compute != LOCAL and fitting.is_shared

    def facts(self, remote: bool = True) -> dict[str, Any]:
        """Metadata of an asset: where it was computed; ``remote``: on the cluster if there is one."""
        where = "this machine"
        if self.compute != LOCAL and remote:
            where = f"Ray cluster {self.address}: {self.workers} workers of {self.cpus_per_worker} CPUs"
        return {COMPUTED_BY: where}

    def train(
        self,
        fitting: "Fitting",
        on_epoch: Callable[[EpochReport], None],
        on_batch: Callable[[BatchReport], None],
        checkpoint: "Checkpoint",
    ) -> list[EpochReport]:
        """Run a training; on a cluster, by all workers together.

        Args:
            fitting: the training. Its network ends with the weights.
            on_epoch: see ``Fitting.run``.
            on_batch: likewise.
            checkpoint: of this training.
        """
        if not self.is_remote(fitting):
            return fitting.run(on_epoch, on_batch, checkpoint)
        return self._engine().train(fitting, on_epoch, on_batch, _place(checkpoint))

    def forget(self, checkpoint: "Checkpoint") -> None:
        """Remove what a training that is registered has saved."""
        checkpoint.remove()
        if self.compute != LOCAL:
            self._engine().forget(_place(checkpoint))

    def _engine(self) -> "RayEngine":
        try:
            from orchestration.compute.ray_engine import RayEngine
        except ImportError as error:
            raise dg.Failure(
                f"compute is ray, and Ray is not installed ({error}); pip install -e '.[cluster]', or set compute: "
                "local in compute.yaml",
                allow_retries=False,
            ) from error
        storage = UPath(self.storage) if self.storage else settings().home / "cluster"
        if storage.protocol in ("", "file"):
            storage = UPath(PROJECT_ROOT / storage.path)
        return RayEngine(self.address, self.workers, self.cpus_per_worker, storage)


def _place(checkpoint: "Checkpoint") -> str:
    """Name of a training among those on clusters: data set, model and fingerprint."""
    return "/".join(checkpoint.folder.parts[-3:])
