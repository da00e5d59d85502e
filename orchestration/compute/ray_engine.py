"""Work on a Ray cluster; the only module that uses Ray.

Independent work runs over Ray Data, in a pool of actors that prepare once; a lost actor is started again on a machine
that is left, and its work is done again. Training runs over Ray Train, and goes on from the last epoch's checkpoint
after a lost worker. Ray sends Python objects in pickles: everybody who can reach a cluster's ports can run code on it.
"""

import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
import ray
import ray.data
import ray.train
from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray.exceptions import RayError
from ray.util.queue import Empty, Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from upath import UPath

from ml.processors import Item, Result, Shared, State, grant_processors
from ml.training.reports import BatchReport, EpochReport

if TYPE_CHECKING:
    from ray.train.tensorflow import TensorflowTrainer

    from ml.training.fitting import Fitting

_RESTARTS = 5  # of a training's workers
_POLL_SECONDS, _CONNECT_SECONDS = 0.5, 10
_SILENT_SECONDS = 120  # then a training may wait for a machine that is lost
_EPOCH, _BATCH, _END = "epoch", "batch", "end"  # kinds of messages of a training


class RayEngine:
    """A Ray cluster.

    Args:
        address: see compute.yaml.
        workers: processes that work at the same time.
        cpus: of each of them.
        storage: directory of checkpoints, on any fsspec file system.

    Attributes:
        parts: see ``ml.processors.Each``.
    """

    def __init__(self, address: str, workers: int, cpus: int, storage: UPath) -> None:
        self._address, self._workers, self._cpus, self._storage = address, workers, cpus, storage
        self.parts = workers

    def __call__(
        self,
        prepare: Callable[[Shared], State],
        work: Callable[[State, Item], Result],
        items: Sequence[Item],
        shared: Shared,
    ) -> Iterator[tuple[int, Result]]:
        """See ``ml.processors.Each``. Raises dagster.Failure where there is no cluster, or it is too small."""
        if not items:
            return
        self._connect()
        given, of_items = ray.put((prepare, work, shared)), [ray.put(item) for item in items]
        numbers = ray.data.from_items(
            [{"number": number} for number in range(len(items))], override_num_blocks=len(items)
        )
        done = numbers.map_batches(
            _Worker,
            fn_constructor_kwargs={"given": [given], "items": of_items, "cpus": self._cpus},
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(self._workers, len(items)), max_tasks_in_flight_per_actor=1),
            num_cpus=self._cpus,
        )
        for row in done.iter_rows():
            yield int(row["number"]), row["result"]

    def train(
        self,
        fitting: "Fitting",
        on_epoch: Callable[[EpochReport], None],
        on_batch: Callable[[BatchReport], None],
        name: str,
    ) -> list[EpochReport]:
        """Train by all workers together; see ``Compute.train``.

        Args:
            fitting: the training. Its network ends with the weights.
            on_epoch: called after every epoch.
            on_batch: called within an epoch.
            name: of the training; an interrupted one of this name goes on.

        Raises:
            dagster.Failure: there is no cluster, it is too small, or the training failed.
        """
        from ray.train.tensorflow import TensorflowTrainer

        self._connect()
        messages = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": _here()})
        config = {"fitting": [ray.put(fitting.packed())], "messages": messages, "cpus": self._cpus}
        trainer = TensorflowTrainer(
            _train,
            train_loop_config=config,
            scaling_config=ray.train.ScalingConfig(
                num_workers=self._workers, resources_per_worker={"CPU": self._cpus}, placement_strategy="SPREAD"
            ),
            run_config=ray.train.RunConfig(
                name=name,
                storage_path=self._storage.path,
                storage_filesystem=PyFileSystem(FSSpecHandler(self._storage.fs)),
                failure_config=ray.train.FailureConfig(max_failures=_RESTARTS),
                checkpoint_config=ray.train.CheckpointConfig(num_to_keep=1),
            ),
        )
        failures: list[Exception] = []
        running = Thread(target=_fit, args=(trainer, failures), daemon=True)
        running.start()
        try:
            reports, weights = _followed(messages, running, on_epoch, on_batch, self._require_processors)
        except dg.Failure:
            ray.shutdown()  # ends the training, which would wait for processors
            raise
        messages.shutdown()
        if weights is None:
            raise dg.Failure(f"The training on the Ray cluster ended without a result: {failures[:1]}")
        fitting.network.set_weights(weights)
        return reports

    def forget(self, name: str) -> None:
        """Remove what trainings of this name's model have saved, this one and earlier ones that were interrupted."""
        folder = (self._storage / name).parent
        if folder.exists():
            folder.fs.rm(folder.path, recursive=True)

    def _connect(self) -> None:
        if not ray.is_initialized():
            _require_reachable(self._address)
            variables = {f"TF_NUM_{kind}_THREADS": str(self._cpus) for kind in ("INTRAOP", "INTEROP")}
            import keras

            variables["KERAS_BACKEND"] = keras.config.backend()
            try:
                ray.init(address=self._address, runtime_env={"env_vars": variables}, log_to_driver=False)
            except (ConnectionError, RayError, ValueError) as error:
                raise _no_cluster(self._address, error) from error
        # Every step has a log of its own, in Dagster.
        ray.data.DataContext.get_current().enable_progress_bars = False
        # With every CPU given to workers, Ray Data's own tasks would wait for one forever.
        self._require_processors(spare=1)

    def _require_processors(self, spare: int = 0) -> None:
        """Raise dagster.Failure for a cluster that is too small; Ray would wait for it to grow and log nothing."""
        has, needs = ray.cluster_resources().get("CPU", 0), self._workers * self._cpus
        if has < needs + spare:
            raise dg.Failure(
                f"The Ray cluster has {has:.0f} CPUs; expected at least {needs + 1}: {self._workers} workers of "
                f"{self._cpus}, and one for Ray's own tasks. Add machines, or lower workers in compute.yaml"
            )


def _require_reachable(address: str) -> None:
    """Raise dagster.Failure if nothing listens at host:port; Ray would wait for minutes."""
    host, colon, port = address.rpartition(":")
    if not (colon and port.isdecimal()):
        return  # auto, local, or an address that Ray refuses
    try:
        socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str, error: Exception) -> dg.Failure:
    return dg.Failure(
        f"There is no Ray cluster at {address}, or this machine is no node of it ({error}); expected the address of "
        "one in compute.yaml. `ray start --head` starts one on this machine, `ray start --address=<host:port> "
        "--num-cpus=0` makes this machine a node that does no work. A cluster with a token needs RAY_AUTH_MODE=token"
    )


class _Worker:
    """Works on items in a process of the cluster."""

    def __init__(self, given: list[Any], items: list[Any], cpus: int) -> None:
        grant_processors(cpus)
        prepare, self._work, shared = ray.get(given[0])
        self._items, self._state = items, prepare(shared)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        results = np.empty(len(batch["number"]), object)  # else Ray Data would take them for columns of numbers
        for place, number in enumerate(batch["number"]):
            results[place] = self._work(self._state, ray.get(self._items[number]))
        return {"number": batch["number"], "result": results}


def _train(config: dict[str, Any]) -> None:
    """Train in one of the processes of a cluster."""
    from ml.training.parallel import Workers

    workers = Workers.join()
    grant_processors(config["cpus"])
    from ml.training.checkpoint import Checkpoint
    from ml.training.fitting import Fitting

    fitting = Fitting.unpacked(ray.get(config["fitting"][0]))
    first, messages = workers.rank == 0, config["messages"]
    with tempfile.TemporaryDirectory() as folder:
        if saved := ray.train.get_checkpoint():
            with saved.as_directory() as directory:
                shutil.copytree(directory, folder, dirs_exist_ok=True)
        checkpoint = Checkpoint(Path(folder))
        restored = len(checkpoint.reports())

        def epoch_done(report: EpochReport) -> None:
            if report.epoch > restored:
                own = ray.train.Checkpoint.from_directory(folder) if first else None
                ray.train.report({"val_loss": report.val_loss}, checkpoint=own)
            if first:
                messages.put((_EPOCH, report))

        def batch_done(report: BatchReport) -> None:
            if first:
                messages.put((_BATCH, report))

        reports = fitting.run(epoch_done, batch_done, checkpoint, workers)
    if first:
        messages.put((_END, (reports, fitting.network.get_weights())))


def _fit(trainer: "TensorflowTrainer", failures: list[Exception]) -> None:
    try:
        trainer.fit()
    except Exception as error:
        failures.append(error)


def _followed(
    messages: Queue,
    running: Thread,
    on_epoch: Callable[[EpochReport], None],
    on_batch: Callable[[BatchReport], None],
    require_processors: Callable[[], None],
) -> tuple[list[EpochReport], list[np.ndarray] | None]:
    """Pass the messages of a training on until it ends; gives its reports and last weights, None if it failed.

    Raises dagster.Failure where nothing comes for a while and the cluster has become too small.
    """
    epochs, end, heard = 0, None, time.monotonic()
    while running.is_alive() or not messages.empty():
        try:
            kind, content = messages.get(timeout=_POLL_SECONDS)
        except Empty:
            if time.monotonic() - heard > _SILENT_SECONDS:
                require_processors()
            continue
        heard = time.monotonic()
        if kind == _BATCH:
            on_batch(content)
        elif kind == _END:
            end = content
        elif content.epoch > epochs:  # after a restart, the restored epochs are reported a second time
            epochs = content.epoch
            on_epoch(content)
    return end or ([], None)


def _here() -> NodeAffinitySchedulingStrategy:
    """On the machine of this process: what it waits for ends with it."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
