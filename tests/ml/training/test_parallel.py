"""The same training by one process and by several, each in a process of its own."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PROGRAM = "tests.ml.training.parallel_program"
SECONDS = 240


def free_ports(count: int) -> list[int]:
    """Return ports on which nothing listens."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def trained(folder: Path, architecture: str, rows: int, workers: int) -> list[dict[str, np.ndarray]]:
    """Return losses and weights with which each worker ends."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(workers)]
    running = []
    for rank in range(workers):
        file = folder / f"{rank}-of-{workers}.npz"
        place = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
        how, variables = ("together", {"TF_CONFIG": json.dumps(place)}) if workers > 1 else ("alone", {})
        command = [sys.executable, "-W", "ignore", "-m", PROGRAM, architecture, how, str(file), str(rows)]
        running.append((subprocess.Popen(command, env={**os.environ, **variables}), file))
    try:
        assert [process.wait(timeout=SECONDS) for process, _ in running] == [0] * workers
    finally:
        for process, _ in running:
            process.kill()
    return [dict(np.load(file)) for _, file in running]


def require_equal(folder: Path, architecture: str, rows: int, workers: int) -> None:
    """Compare what several workers end with, and one."""
    [alone] = trained(folder, architecture, rows, 1)
    together = trained(folder, architecture, rows, workers)
    assert len(alone) > 5
    assert alone["losses"][1, 0] < alone["losses"][0, 0]
    for found in together:
        assert found.keys() == alone.keys()
        for name, values in alone.items():
            np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-5)


# The last batch has 40 of 96 rows; of 97 rows in all, 1, and one worker has none of it.
@pytest.mark.parametrize("rows", [1000, pytest.param(108, marks=pytest.mark.slow)])
def test_workers_end_where_one_process_ends(rows: int, tmp_path: Path) -> None:
    require_equal(tmp_path, "autoint", rows, 2)


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "rows", "workers"), [("autoint_cin", 961, 3), ("autoint_multitask", 1002, 3)])
def test_so_do_more_workers_other_networks_and_groups(
    architecture: str, rows: int, workers: int, tmp_path: Path
) -> None:
    require_equal(tmp_path, architecture, rows, workers)
