"""Provide a home on servers, and the faults of these: PostgreSQL, MLflow over HTTP, and a store of objects."""

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from upath import UPath

from tests.servers.processes import BUCKET, HOST, rows, servers
from tests.soak import invariants
from tests.soak.home import DATASET, NIGHT_SECONDS, Home, kill_group, pause
from tests.soak.undisturbed import Undisturbed

_HOME = f"s3://{BUCKET}/home"
_STATUSES = ("500", "503")


class Deployed(Undisturbed):
    """A home whose tables are in a store of objects, with Dagster and MLflow in PostgreSQL.

    It begins without tables, with the files that another home has received.

    Args:
        like: the other home.
    """

    def __init__(self, like: Home) -> None:
        self._stack, self._mlflow = ExitStack(), ExitStack()
        folder = Path(self._stack.enter_context(TemporaryDirectory(prefix="soak-")))
        folder.chmod(0o755)  # PostgreSQL's user has to reach its files
        self._fault = folder / "status-of-the-store"
        command = [sys.executable, "-m", "tests.soak.failing_store"]
        self._servers = self._stack.enter_context(
            servers(folder, store=lambda port: [*command, str(port), str(self._fault)], has_mlflow=False)
        )
        self._mlflow.enter_context(self._servers.serve_mlflow())
        super().__init__(folder, like.models)
        self.train(like.models, **like.training)
        for name in ("received", "incoming"):
            if (like.folder / name).exists():
                shutil.copytree(like.folder / name, folder / "local" / name, symlinks=True)

    @property
    def tables(self) -> UPath:  # type: ignore[override]
        """Return the place of the tables."""
        keys = {"key": "test", "secret": "test", "endpoint_url": f"http://{HOST}:{self._servers.s3_port}"}
        return UPath(f"{_HOME}/tables/{DATASET}", use_listings_cache=False, **keys)

    @property
    def incoming(self) -> Path:
        """Return the incoming directory."""
        return self._base / "local" / "incoming" / DATASET

    def environment(self) -> dict[str, str]:
        """Return the environment of a run in this home."""
        own = {**super().environment(), **self._servers.environment(_HOME)}
        return {name: value for name, value in own.items() if name != "DAGSTER_HOME"}

    def night(self, number: int, rng: np.random.Generator, undisturbed: Home) -> Iterator[str]:
        """Run with a fault and without; yields the kind of the fault, which take turns, then the violations."""
        kind = [*FAULTS][number % len(FAULTS)]
        yield kind
        with self.start() as process:
            if fault := FAULTS[kind]:
                fault(self, rng)
            else:
                pause(rng, 2, 40)
                kill_group(process)
            process.wait(NIGHT_SECONDS)
        if status := self.run():
            yield f"exit status {status}"
            return
        yield from invariants.whole_tables(self)
        yield from invariants.same_tables(self, undisturbed)
        for database, left in (("mlflow", "'RUNNING'"), ("dagster", "'STARTED', 'STARTING', 'NOT_STARTED'")):
            [(count,)] = rows(self._servers, database, f"SELECT count(*) FROM runs WHERE status IN ({left})")
            if count:
                yield f"{count} runs are left running in the database {database}"

    def restart_postgres(self, rng: np.random.Generator) -> None:
        """Restart it in the middle of a run, without waiting for anybody."""
        pause(rng, 2, 40)
        self._servers.postgres.restart()

    def restart_mlflow(self, rng: np.random.Generator) -> None:
        """Have no tracking server for a while."""
        pause(rng, 2, 40)
        self._mlflow.close()
        pause(rng, 0, 10)
        self._mlflow.enter_context(self._servers.serve_mlflow())

    def fail_store(self, rng: np.random.Generator) -> None:
        """Have the store answer with errors for a while."""
        pause(rng, 2, 40)
        self._fault.write_text(str(rng.choice(_STATUSES)))
        pause(rng, 1, 20)
        self._fault.unlink()

    def stop(self) -> None:
        """End everything."""
        self.cool()
        self._mlflow.close()
        self._stack.close()


FAULTS: Mapping[str, Callable[[Deployed, np.random.Generator], None] | None] = {
    "postgres_restarts": Deployed.restart_postgres,
    "tracking_server_restarts": Deployed.restart_mlflow,
    "store_fails": Deployed.fail_store,
    "run_is_killed": None,
}
