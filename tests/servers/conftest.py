from collections.abc import Iterator

import pytest

from tests.servers.processes import Servers, servers


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """All servers, empty at first."""
    folder = tmp_path_factory.mktemp("servers")
    for path in (folder, *folder.parents[:2]):  # PostgreSQL's user has to reach its files
        path.chmod(0o755)
    with servers(folder) as started:
        yield started
