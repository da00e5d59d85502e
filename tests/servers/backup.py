"""Back up and restore, with the commands of docs/deployment.md."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.processes import BUCKET, Postgres, Servers, bucket, servers

_DATABASES = {"dagster": "dagster", "mlflow": "mlflow", "mlflow_auth": "mlflow"}  # owners by database
_CLAIM = "home/writer.json"


def backed_up(made: Servers, folder: Path) -> None:
    """Write the databases, the local files and the objects to a directory."""
    for database in _DATABASES:
        made.postgres.run("pg_dump", "--format=custom", f"--file={folder / database}.dump", database)
    shutil.copytree(made.folder / "local", folder / "local")
    store = bucket(made)
    for page in store.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        for item in page["Contents"]:
            path = folder / "objects" / item["Key"]
            path.parent.mkdir(parents=True, exist_ok=True)
            store.download_file(BUCKET, item["Key"], str(path))


@contextmanager
def restored(backup: Path, folder: Path) -> Iterator[Servers]:
    """Start servers with the content of a backup, in an empty place."""

    def fill(databases: Postgres) -> None:
        for database, owner in _DATABASES.items():
            own = [f"--dbname={database}", f"--role={owner}", "--no-owner", "--exit-on-error"]
            databases.run("pg_restore", *own, str(backup / f"{database}.dump"))

    for path in (folder, *folder.parents[:2]):
        path.chmod(0o755)
    shutil.copytree(backup / "local", folder / "local")
    with servers(folder, fill) as made:
        for path in (backup / "objects").rglob("*"):
            name = str(path.relative_to(backup / "objects"))
            if path.is_file() and name != _CLAIM:  # the restored place is another writer
                bucket(made).upload_file(str(path), BUCKET, name)
        yield made
