"""Ray nodes on this machine, each with processes of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.cluster_utils import Cluster as RayCluster

CPUS = 2


class Cluster:
    """A head and further nodes, each of two CPUs.

    Attributes:
        address: of the head.
    """

    def __init__(self) -> None:
        self._ray: Any = RayCluster(initialize_head=True, head_node_args={**_ARGUMENTS, "_system_config": NOTICES})
        self.address: str = self._ray.address
        self._others: list[Any] = []

    def add(self) -> None:
        """Start another node."""
        self._others.append(self._ray.add_node(**_ARGUMENTS))

    def kill(self) -> None:
        """Kill a further node with all its workers."""
        self._ray.remove_node(self._others.pop(), allow_graceful=False)

    def kill_head(self) -> None:
        """Kill the head."""
        self._ray.head_node.kill_all_processes(check_alive=False, allow_graceful=False)

    def stop(self) -> None:
        """End all processes."""
        self._ray.shutdown()


# A lost node is noticed after some seconds instead of half a minute.
NOTICES = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 1000, "health_check_failure_threshold": 3}
_ARGUMENTS = {"num_cpus": CPUS, "object_store_memory": 300_000_000, "include_dashboard": False}


@contextmanager
def cluster(nodes: int = 2) -> Iterator[Cluster]:
    """A cluster of some nodes, stopped at the end."""
    made = Cluster()
    try:
        for _ in range(nodes - 1):
            made.add()
        yield made
    finally:
        ray.shutdown()
        made.stop()
