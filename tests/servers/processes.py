"""Real servers on 127.0.0.1, as deploy/compose.yaml starts them: PostgreSQL, a store of objects, MLflow with users."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg2

from orchestration.config.settings import PROJECT_ROOT
from tests.waiting import free_port, until

HOST = "127.0.0.1"
ADMIN = "admin"
BUCKET = "recommender"
START_SECONDS, STOP_SECONDS = 120, 30
PASSWORD = "a password: of/tests"  # has characters that an address must escape


@contextmanager
def started(
    command: Sequence[str], log: Path, port: int, env: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a server, wait until it listens, and stop it with all its processes at the end."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            # Where SIGINT is ignored, as in a script's background, Dagster's servers would ignore SIGTERM too.
            ["env", "--default-signal=INT", *command],
            env={**os.environ, **(env or {})},
            cwd=PROJECT_ROOT,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        until(lambda: listens(port) or process.poll() is not None, START_SECONDS)
        assert process.poll() is None, log.read_text()[-3000:]
        yield process
    finally:
        stop(process)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def stop(process: "subprocess.Popen[bytes]", by: int = signal.SIGTERM) -> None:
    """End a process, and kill what is left of its session."""
    if process.poll() is None:
        process.send_signal(by)
    try:
        process.wait(STOP_SECONDS)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@dataclass
class Postgres:
    """A PostgreSQL server with the databases of deploy/create-databases.sh.

    Attributes:
        folder: everything of it.
        port: that it listens on.
    """

    folder: Path
    port: int = field(default_factory=free_port)

    @staticmethod
    def programs() -> Path:
        """Directory of PostgreSQL's programs."""
        found = [*Path("/usr/lib/postgresql").glob("*/bin")]
        assert found, "PostgreSQL is not installed (apt-get install postgresql)"
        return max(found, key=lambda path: int(path.parent.name))

    @property
    def environment(self) -> dict[str, str]:
        """The environment of PostgreSQL's clients, for its superuser."""
        path = f"{self.programs()}:{os.environ['PATH']}"
        return {"PATH": path, "PGHOST": HOST, "PGPORT": str(self.port), "PGUSER": "postgres", "PGPASSWORD": PASSWORD}

    def url(self, database: str) -> str:
        """Address of a database whose owner has its name."""
        return f"postgresql://{database}:{quote(PASSWORD, safe='')}@{HOST}:{self.port}/{database}"

    def run(self, *command: str) -> None:
        """Run one of PostgreSQL's clients, or the script."""
        own = {**os.environ, **self.environment, "DAGSTER_DB_PASSWORD": PASSWORD, "MLFLOW_DB_PASSWORD": PASSWORD}
        subprocess.run(command, env=own, check=True, stdout=subprocess.DEVNULL)

    @contextmanager
    def serve(self) -> Iterator["Postgres"]:
        """Make the databases, and serve them."""
        self.folder.mkdir(mode=0o755)
        data, password = self.folder / "data", self.folder / "password"
        password.write_text(PASSWORD)
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            for path in (self.folder, password):
                shutil.chown(path, "postgres", "postgres")
        make = ["initdb", "-D", str(data), "-U", "postgres", "--pwfile", str(password), "-A", "scram-sha-256"]
        subprocess.run(self._as_server(*make, "-E", "UTF8"), check=True, stdout=subprocess.DEVNULL)
        serve = ["postgres", "-D", str(data), "-h", HOST, "-p", str(self.port), "-k", str(self.folder)]
        with started(self._as_server(*serve), self.folder.parent / "postgres.log", self.port):
            until(self._is_ready)
            self.run("sh", str(PROJECT_ROOT / "deploy" / "create-databases.sh"))
            yield self
            self._control("stop")  # which `started` does not, once it was restarted

    def restart(self) -> None:
        """Stop the server without waiting for its clients, and start it again."""
        self._control("restart")

    def _control(self, command: str) -> None:
        control = ["pg_ctl", command, "-D", str(self.folder / "data"), "-m", "immediate", "-w"]
        log = ["-l", str(self.folder / "restarted.log")] if command == "restart" else []
        subprocess.run(self._as_server(*control, *log), check=True, stdout=subprocess.DEVNULL)

    def _is_ready(self) -> bool:
        ready = [str(self.programs() / "pg_isready"), "-q", "-h", HOST, "-p", str(self.port)]
        return subprocess.run(ready, check=False).returncode == 0

    def _as_server(self, program: str, *arguments: str) -> list[str]:
        other_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
        return [*other_user, str(self.programs() / program), *arguments]


@dataclass
class Servers:
    """All servers.

    Attributes:
        folder: logs and local files.
        postgres: the database server.
        s3_port: of the store of objects.
        mlflow_port: of the tracking server.
    """

    folder: Path
    postgres: Postgres
    s3_port: int = field(default_factory=free_port)
    mlflow_port: int = field(default_factory=free_port)

    @property
    def s3(self) -> dict[str, str]:
        """The environment of the store's clients."""
        return {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{HOST}:{self.s3_port}",
        }

    @property
    def mlflow(self) -> dict[str, str]:
        """The environment of the tracking server's clients."""
        return {
            "MLFLOW_TRACKING_URI": f"http://{HOST}:{self.mlflow_port}",
            "MLFLOW_TRACKING_USERNAME": ADMIN,
            "MLFLOW_TRACKING_PASSWORD": PASSWORD,
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        }

    def environment(self, home: str, local: str = "local") -> dict[str, str]:
        """The environment of the pipeline, with a home in the store; its local files are below ``folder``."""
        return {
            **self.s3,
            **self.mlflow,
            "DAGSTER_POSTGRES_URL": self.postgres.url("dagster"),
            "PIPELINE_HOME": home,
            "PIPELINE_LOCAL_HOME": str(self.folder / local),
        }

    @contextmanager
    def serve_mlflow(self) -> Iterator[None]:
        """Start the tracking server."""
        ini = self.folder / "mlflow-auth.ini"
        template = (PROJECT_ROOT / "deploy" / "mlflow-auth.ini").read_text()
        ini.write_text(template.replace("@postgres:5432", f"@{HOST}:{self.postgres.port}"))
        env = {
            **self.s3,
            "PGPASSWORD": PASSWORD,
            "MLFLOW_AUTH_CONFIG_PATH": str(ini),
            "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN,
            "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "of tests",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        store = f"postgresql+psycopg2://mlflow@{HOST}:{self.postgres.port}/mlflow"
        artifacts = ["--serve-artifacts", "--artifacts-destination", f"s3://{BUCKET}/mlflow"]
        address = ["--host", HOST, "--port", str(self.mlflow_port), "--workers", "1"]
        command = ["server", "--app-name", "basic-auth", "--backend-store-uri", store, *artifacts, *address]
        log = self.folder / "mlflow.log"
        with started([sys.executable, "-m", "mlflow", *command], log, self.mlflow_port, env):
            yield


def moto(port: int) -> list[str]:
    """The command that starts moto's store of objects."""
    return [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)]


@contextmanager
def servers(
    folder: Path,
    fill: Callable[[Postgres], None] = lambda postgres: None,
    store: Callable[[int], list[str]] = moto,
    has_mlflow: bool = True,
) -> Iterator[Servers]:
    """Start all servers, and an empty bucket.

    Args:
        folder: logs and local files.
        fill: is called with the empty databases, before the tracking server starts.
        store: the command that starts the store of objects, by its port.
        has_mlflow: whether to start the tracking server.
    """
    with ExitStack() as stack:
        postgres = stack.enter_context(Postgres(folder / "postgres").serve())
        fill(postgres)
        made = Servers(folder, postgres)
        stack.enter_context(started(store(made.s3_port), folder / "s3.log", made.s3_port))
        bucket(made).create_bucket(Bucket=BUCKET)
        if has_mlflow:
            stack.enter_context(made.serve_mlflow())
        yield made


def bucket(made: Servers):  # type: ignore[no-untyped-def]
    """A client of the store."""
    import boto3

    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    return boto3.client("s3", endpoint_url=made.s3["AWS_ENDPOINT_URL"], **keys)


def rows(made: Servers, database: str, query: str) -> list[tuple[int, ...]]:
    """What a database answers."""
    connection = psycopg2.connect(made.postgres.url(database))
    try:
        with connection.cursor() as cursor:
            cursor.execute(query)
            return list(cursor.fetchall())
    finally:
        connection.close()


def graphql(port: int, query: str, variables: Mapping[str, object]) -> dict[str, Any]:
    """What Dagster's webserver answers."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(
        f"http://{HOST}:{port}/graphql", body, {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=120) as response:
        found: dict[str, Any] = json.load(response)
    assert "errors" not in found, found["errors"]
    return dict(found["data"])
