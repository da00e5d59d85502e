"""The value of a model asset: which version of a registered model it made. And the names of a version's tags."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

BUNDLE_FILE = "bundle.zip"
BUNDLE_ARTIFACT = f"artifacts/{BUNDLE_FILE}"  # where MLflow keeps it inside a logged model
ATTENTION_FILE = "attention.json"  # artifact of a run: the mean attention weights; runs of earlier releases have none
BUNDLE_DIGEST = "bundle_digest"  # tag: ml.files.digest of the bundle file; versions of earlier releases have none
ROLLED_BACK = "rolled_back"  # tag: a person has replaced this version by an earlier one
EPOCH = "epoch"  # tag: the epoch of its weights
LAST_BATCH = "last_batch"  # tag: the highest ingestion batch among its training rows
WARM_START = "warm_start"  # tag: where its training started, or why from scratch; prefix of the tags below
PARENT = f"{WARM_START}.parent"  # number of the version whose weights it started with; none for one from scratch
GENERATION = f"{WARM_START}.generation"  # warm starts since the last training from scratch


@dataclass(frozen=True)
class RegisteredVersion:
    """A version in MLflow's registry.

    Attributes:
        model: the model's name in this project.
        registered_model: the model's name in the registry.
        version: the version's number in the registry.
        run_id: the run that trained it.
        model_id: the logged model that it refers to.
    """

    model: str
    registered_model: str
    version: str
    run_id: str
    model_id: str

    @property
    def uri(self) -> str:
        """MLflow's address of the version."""
        return f"models:/{self.registered_model}/{self.version}"

    def to_dict(self) -> dict[str, str]:
        """Convert to a JSON-ready document; ``version_of`` reads it."""
        return asdict(self)


SKIPPED = "skipped"  # key of a model asset's value without a version, and of metadata: why there is none


def version_of(document: Mapping[str, str]) -> RegisteredVersion | None:
    """Read the value of a model asset; None where its recipe was skipped on the data set."""
    return None if SKIPPED in document else RegisteredVersion(**document)
