from collections.abc import Iterator

import pytest

from tests.cluster.nodes import Cluster, cluster
from tests.ml.conftest import (  # noqa: F401 - fixtures
    bundle,
    network,
    small_feature_map,
    small_interactions,
    small_movies,
    small_users,
)


@pytest.fixture
def nodes() -> Iterator[Cluster]:
    """A cluster of two nodes, which a test may break."""
    with cluster() as made:
        yield made
