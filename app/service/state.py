"""What the service answers from, refreshed by a thread."""

import gc
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import orjson
import pandas as pd
from upath import UPath

from app.service.config import ServingConfig
from app.service.metrics import Metrics
from app.service.problems import UnavailableError
from ml.errors import DataError, NotFoundError
from ml.published.snapshot import Published, PublishedModel, Snapshot
from ml.schema import Id, IdType

_RETRY_SECONDS = 5


def _exempt_from_garbage_collection() -> None:
    """Let the garbage collector pass over all objects there are now, once it has removed the garbage.

    Nearly all are of modules: half a million that stay. A few large batches make enough objects for a full collection,
    which would stop all responses for up to half a second each time.
    """
    gc.collect()
    gc.freeze()


def item_json(rows: pd.DataFrame) -> list[bytes]:
    """Serialize each row of a list to the JSON of an item."""
    columns = (rows[name].tolist() for name in ("rank", "movie_id", "title", "genres", "score"))
    return [
        orjson.dumps(
            {
                "rank": rank,
                "movie_id": movie,
                "title": title,
                "genres": genres.split("|") if genres else [],
                "score": round(score, 6),
            }
        )
        for rank, movie, title, genres, score in zip(*columns, strict=True)
    ]


class PreparedModel:
    """A published model with each user's items serialized to JSON.

    Args:
        model: the published model.
    """

    def __init__(self, model: PublishedModel) -> None:
        self.model = model
        table = model.lists.table
        items = item_json(table)
        firsts = table["user_id"].drop_duplicates()
        users, starts = firsts.tolist(), firsts.index.tolist()
        ends = [*starts[1:], len(items)]
        self._items = {user: items[start:end] for user, start, end in zip(users, starts, ends, strict=True)}
        self.longest = int(table["rank"].max())

    def items(self, user_id: Id) -> list[bytes]:
        """A user's items, best first. Raises NotFoundError."""
        found = self._items.get(user_id)
        # A user who is not in the table has rated every movie and gets an empty list, or is unknown.
        return item_json(self.model.list_of(user_id)) if found is None else found


@dataclass(frozen=True)
class Serving:
    """What requests are answered from; never changed, only replaced as a whole.

    Attributes:
        snapshot: all published models.
        models: the same models with serialized items, by name.
    """

    snapshot: Snapshot
    models: Mapping[str, PreparedModel]

    def model(self, name: str) -> PreparedModel:
        """A model by its name. Raises NotFoundError."""
        self.snapshot.model(name)
        return self.models[name]


class State:
    """What is served now, and the thread that polls for new champions.

    Args:
        home: the pipeline's home.
        dataset: the data set's name, or None for the only one.
        config: settings of the service.
        logger: logs refreshes and their failures.
        metrics: counts the same.
    """

    def __init__(self, home: UPath, dataset: str | None, config: ServingConfig, logger: Any, metrics: Metrics) -> None:
        self.config, self.error = config, "tables and models are being loaded"
        self._home, self._dataset, self._logger, self._metrics = home, dataset, logger, metrics
        self._published: Published | None = None
        self._serving: Serving | None = None
        self._stop = threading.Event()
        self._waiting, self._lock = 0, threading.Lock()

    @property
    def serving(self) -> Serving:
        """What to answer from; to be read once per request. Raises UnavailableError."""
        if self._serving is None:
            raise UnavailableError(self.error, _RETRY_SECONDS)
        return self._serving

    @property
    def user_id_type(self) -> IdType | None:
        """Type of the users' ids; None until tables are loaded."""
        return self._serving.snapshot.people.user_id_type if self._serving else None

    @property
    def movie_id_type(self) -> IdType | None:
        """Type of the movies' ids; None until tables are loaded."""
        return self._serving.snapshot.people.movie_id_type if self._serving else None

    @property
    def string_ids(self) -> int:
        """Number of ids in a pair that are strings; 0 until tables are loaded."""
        return [self.user_id_type, self.movie_id_type].count(str)

    def arm_model(self, name: str, serving: Serving) -> PreparedModel:
        """The model of an arm of the experiment. Raises UnavailableError where it is not published."""
        if name not in serving.models:
            raise UnavailableError(
                f"the experiment's {name} is not published; run make run, or change serving.yaml", _RETRY_SECONDS
            )
        return serving.models[name]

    def require_arms(self, serving: Serving) -> None:
        """Raises UnavailableError where a model of the experiment is not published."""
        for arm in self.config.experiment.arms if self.config.experiment else ():
            self.arm_model(arm.model, serving)

    def start(self) -> None:
        """Load what is published in a thread, and poll for new champions from then on."""
        self._stop.clear()
        self._live = ThreadPoolExecutor(1, "live")  # one list uses all processors
        self._thread = threading.Thread(target=self._poll, name="refresh", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the threads after the live scoring in progress."""
        self._stop.set()
        self._thread.join()
        self._live.shutdown()

    def score_live(self, work: Callable[[], Any]) -> Any:
        """Queue work that needs a network, or takes as long; gives its future.

        Raises:
            UnavailableError: the queue is full.
        """
        if self._waiting >= self.config.max_queue:
            raise UnavailableError(f"{self._waiting} requests wait to be scored live; retry later", 1)
        self._count(1)
        future = self._live.submit(work)
        future.add_done_callback(lambda _: self._count(-1))
        return future

    def refresh(self) -> None:
        """Poll once for new champions; a failure changes nothing in what is served."""
        try:
            changed = self._update()
        except (DataError, NotFoundError, OSError) as error:
            self.error = str(error)
            self._metrics.refreshes.labels("failed").inc()
            self._logger.warning("refresh_failed", error=self.error, serving=self._serving is not None)
        except Exception:  # the thread must go on, and the log must say why nothing new is served
            self.error = "the last refresh failed; the log says why"
            self._metrics.refreshes.labels("failed").inc()
            self._logger.exception("refresh_failed", serving=self._serving is not None)
        else:
            self.error = ""
            self._metrics.refreshes.labels("new" if changed else "same").inc()

    def _update(self) -> bool:
        if self._published is None:
            published = Published(self._home, self._dataset)
            for model in published.current.models.values():
                model.live.warm_up(model.lists.moment)
            self._published = published
        else:
            self._published.refresh()
        snapshot = self._published.current
        before = self._serving
        if before and before.snapshot is snapshot:
            return False
        models = {
            name: before.models[name]
            if before and name in before.models and before.models[name].model is model
            else PreparedModel(model)
            for name, model in snapshot.models.items()
        }
        self._serving = Serving(snapshot, models)
        if before is None:  # later champions have few objects; of the first ones, only the networks are never freed
            _exempt_from_garbage_collection()
        self._metrics.versions.clear()
        for name, model in snapshot.models.items():
            self._metrics.versions.labels(name, model.version).set(1)
        versions = {name: model.version for name, model in snapshot.models.items()}
        self._logger.info("refreshed" if before else "ready", dataset=snapshot.dataset, versions=versions)
        return True

    def _poll(self) -> None:
        self.refresh()
        while not self._stop.wait(self.config.refresh_seconds):
            self.refresh()

    def _count(self, change: int) -> None:
        with self._lock:
            self._waiting += change
            self._metrics.waiting.set(self._waiting)
