"""What a pipeline has published, kept in memory for those who serve it, and looked at again when they say so.

Tables alone are quick to read; a network is loaded when it is first asked, or ahead of that by ``warm_up``.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd
from upath import UPath

from ml.errors import DataError, NotFoundError
from ml.files import file_stamp, read_parquet
from ml.published.lists import PublishedLists
from ml.published.locations import (
    archived_bundle_path,
    chosen_dataset,
    published_models,
    tables_directory,
    top_lists_path,
)
from ml.published.people import People
from ml.published.purposes import Purpose, purposes_of
from ml.published.records import version_metrics

if TYPE_CHECKING:
    from ml.inference.explanations import Reasons
    from ml.inference.recommend import Recommender
    from ml.inference.visitors import VisitorRecommender

CALIBRATED = 0.05  # largest expected calibration error of scores that may be shown as chances
_CALIBRATION = "expected_calibration_error"
_Stamp = tuple[tuple[float, int], ...]  # time and size of files


class LiveModel:
    """A published version's network, loaded when it is first asked for. Threads may share it.

    Args:
        bundle: file of the version.
        ratings: user_id, movie_id, rating.
    """

    def __init__(self, bundle: UPath, ratings: pd.DataFrame) -> None:
        self._bundle, self._ratings = bundle, ratings
        self._loading, self._explaining = threading.RLock(), threading.Lock()
        self._recommender: Recommender | None = None
        self._visitors: VisitorRecommender | None = None
        self._reasons: Reasons | None = None

    @property
    def recommender(self) -> "Recommender":
        """For known users. Raises DataError where the file cannot be used."""
        from ml.inference.recommend import Recommender
        from ml.inference.scorer import Scorer
        from ml.models.bundle import ModelBundle

        with self._loading:
            if self._recommender is None:
                self._recommender = Recommender(Scorer(ModelBundle.load(self._bundle)), self._ratings)
            return self._recommender

    @property
    def visitors(self) -> "VisitorRecommender":
        """For visitors without a history."""
        from ml.inference.visitors import VisitorRecommender

        with self._loading:
            if self._visitors is None:
                self._visitors = VisitorRecommender(self.recommender, self._ratings)
            return self._visitors

    @property
    def reasons(self) -> "Reasons":
        """Which liked movies a recommended one is like; takes seconds the first time."""
        from ml.inference.explanations import Reasons

        recommender = self.recommender
        with self._explaining:
            if self._reasons is None:
                self._reasons = Reasons.of(recommender.scorer)
            return self._reasons

    @property
    def is_warm(self) -> bool:
        """Whether lists can be made without waiting."""
        return self._visitors is not None

    @property
    def can_give_reasons(self) -> bool:
        """Whether reasons can be given without waiting."""
        return self._reasons is not None

    def warm_up(self, moment: tuple[int, int]) -> None:
        """Load and compute once what the first lists would otherwise wait for."""
        self.recommender.recommend(int(self.recommender.scorer.user_ids[0]), *moment)
        _ = self.visitors


@dataclass(frozen=True)
class PublishedModel:
    """A model's published version.

    Attributes:
        name: of the model.
        lists: its top-10 table.
        live: its network.
        metrics: of this version, by name; none where they are not known.
        stamp: of the table's file.
    """

    name: str
    lists: PublishedLists
    live: LiveModel
    metrics: Mapping[str, float]
    stamp: _Stamp = field(repr=False)

    @property
    def version(self) -> str:
        """The version's number in the registry."""
        return self.lists.version

    def list_of(self, user_id: int) -> pd.DataFrame:
        """A user's rows of the table; none where the user has rated every movie. Raises NotFoundError."""
        try:
            return self.lists.of(user_id)
        except NotFoundError:
            if user_id not in self.live.recommender.scorer.user_ids:
                raise
            return self.lists.table.iloc[:0]

    @property
    def calibration_error(self) -> float | None:
        """Expected calibration error on the test rows; None where it is not known."""
        return self.metrics.get(_CALIBRATION)

    @property
    def scores_are_chances(self) -> bool:
        """Whether a score may be read as the chance of a like."""
        return self.calibration_error is not None and self.calibration_error <= CALIBRATED


@dataclass(frozen=True)
class Snapshot:
    """All that is published of a data set at one time.

    Attributes:
        dataset: its name.
        models: by name, sorted.
        purposes: what each model is for; the one that answers when none is named comes first.
        people: the users, movies and ratings.
    """

    dataset: str
    models: Mapping[str, PublishedModel]
    purposes: Mapping[str, Purpose]
    people: People
    stamp: _Stamp = field(repr=False)

    def model(self, name: str) -> PublishedModel:
        """A model by its name. Raises NotFoundError."""
        if name not in self.models:
            raise NotFoundError(f"no model {name!r} of {self.dataset} is published; there are {', '.join(self.models)}")
        return self.models[name]

    @property
    def default(self) -> str:
        """Name of the model that answers when none is named."""
        return next(iter(self.purposes))


class Published:
    """A data set's publications under a pipeline's home.

    Args:
        home: the pipeline's home.
        dataset: the data set's name; may be left out where only one is published.

    Raises:
        NotFoundError: nothing is published there, or not this data set; the message says what to do.
        DataError: a file cannot be used.
    """

    def __init__(self, home: UPath, dataset: str | None = None) -> None:
        self._home = home
        self.dataset = chosen_dataset(home, dataset)
        self._lock = threading.Lock()
        self.current = self._look(None)

    def refresh(self) -> list[str]:
        """Look again; what is new is warmed up before it takes the old one's place. Raises as the constructor does.

        Returns:
            Names of the models that were read anew; what was read before stays in use by whoever holds it.
        """
        with self._lock:
            found = self._look(self.current)
            if found is self.current:
                return []
            changed = [name for name, model in found.models.items() if model is not self.current.models.get(name)]
            for name in changed:
                found.models[name].live.warm_up(found.models[name].lists.moment)
            self.current = found
            return changed

    def _look(self, before: Snapshot | None) -> Snapshot:
        tables = tables_directory(self._home, self.dataset)
        stamp = _stamp(*(tables / f"{name}.parquet" for name in ("users", "movies", "ratings")))
        names = published_models(self._home, self.dataset)
        if not names:
            raise NotFoundError(
                f"no model of {self.dataset} is published under {self._home}; run the pipeline (make run)"
            )
        stamps = {name: _stamp(top_lists_path(self._home, self.dataset, name)) for name in names}
        if before and before.stamp == stamp and {name: m.stamp for name, m in before.models.items()} == stamps:
            return before
        people = before.people if before and before.stamp == stamp else _people(tables)
        models = {}
        for name in names:
            old = before.models.get(name) if before else None
            if old and before and before.stamp == stamp and old.stamp == stamps[name]:
                models[name] = old
                continue
            models[name] = self._read(name, people, stamps[name])
        purposes = purposes_of({name: model.metrics for name, model in models.items()})
        return Snapshot(self.dataset, models, purposes, people, stamp)

    def _read(self, name: str, people: People, stamp: _Stamp) -> PublishedModel:
        lists = PublishedLists.load(top_lists_path(self._home, self.dataset, name))
        bundle = archived_bundle_path(self._home, self.dataset, name, lists.version)
        metrics = version_metrics(self._home, self.dataset, name, lists.version)
        return PublishedModel(name, lists, LiveModel(bundle, people.ratings), metrics, stamp)


def _stamp(*paths: UPath) -> _Stamp:
    try:
        return tuple(file_stamp(path) for path in paths)
    except FileNotFoundError as error:
        raise DataError(f"{error.filename}: there is no such file; run the pipeline (make run)") from error


def _people(tables: UPath) -> People:
    users, movies, ratings = (
        read_parquet(tables / f"{name}.parquet", columns)
        for name, columns in (
            ("users", ["user_id", "gender", "age", "occupation", "zip"]),
            ("movies", ["movie_id", "title", "movie_year", "genres"]),
            ("ratings", ["user_id", "movie_id", "rating", "timestamp"]),
        )
    )
    return People(users, movies, ratings)
