"""The published versions of a data set, in memory, refreshed on request.

Tables are read at once; a network is loaded at its first use, or earlier by ``warm_up``.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd
from upath import UPath

from ml.errors import NotFoundError
from ml.files import file_stamp, read_parquet
from ml.published.champions import ArchivedVersion, chosen_dataset, published_versions
from ml.published.lists import PublishedLists
from ml.published.locations import tables_directory
from ml.published.people import People
from ml.published.purposes import Purpose, purposes_of
from ml.schema import LABEL, Id

if TYPE_CHECKING:
    from ml.inference.explanations import Explanations
    from ml.inference.recommend import Recommender
    from ml.inference.visitors import VisitorRecommender

CALIBRATED = 0.05  # the largest expected calibration error of scores that are shown as probabilities
_CALIBRATION = "expected_calibration_error"
_Stamp = tuple[tuple[float, int], ...]  # modification times and sizes of files


class LiveModel:
    """A published version's network, loaded at its first use. Threads may share it.

    Args:
        bundle: file with the network and its encoders.
        people: the known users. What they have rated is not recommended to them, and visitors are compared with them.
    """

    def __init__(self, bundle: UPath, people: People) -> None:
        self._bundle, self._people = bundle, people
        self._loading, self._explaining = threading.RLock(), threading.Lock()
        self._recommender: Recommender | None = None
        self._visitors: VisitorRecommender | None = None
        self._explanations: Explanations | None = None

    @property
    def recommender(self) -> "Recommender":
        """Recommends to known users. Raises DataError where the file cannot be used."""
        from ml.inference.recommend import Recommender
        from ml.inference.scorer import Scorer
        from ml.models.bundle import ModelBundle

        with self._loading:
            if self._recommender is None:
                self._recommender = Recommender(Scorer(ModelBundle.load(self._bundle)), self._people.ratings)
            return self._recommender

    @property
    def visitors(self) -> "VisitorRecommender":
        """Recommends to visitors without a history."""
        from ml.inference.visitors import VisitorRecommender

        with self._loading:
            if self._visitors is None:
                self._visitors = VisitorRecommender(
                    self.recommender, self._people.users.reset_index(), self._people.ratings
                )
            return self._visitors

    @property
    def explanations(self) -> "Explanations":
        """Explains recommended movies by similar liked ones; takes seconds the first time."""
        from ml.inference.explanations import Explanations

        recommender = self.recommender
        with self._explaining:
            if self._explanations is None:
                self._explanations = Explanations.of(recommender.scorer)
            return self._explanations

    @property
    def has_explanations(self) -> bool:
        """Whether explanations can be given without computing similarities first."""
        return self._explanations is not None

    def warm_up(self, moment: tuple[int, int]) -> None:
        """Load the network, and compute a first list at a year and month, so that no request waits for it."""
        self.recommender.recommend(self.recommender.scorer.user_ids[:1].tolist()[0], *moment)
        _ = self.visitors


@dataclass(frozen=True, eq=False)  # two are equal only where they are the same object
class PublishedModel:
    """A model's champion.

    Attributes:
        name: the model's name.
        version: the version's number in the registry.
        lists: its top-10 table.
        live: its network.
        metrics: its metrics by name; empty where they are not known.
        stamp: name, modification time and size of the table's file.
    """

    name: str
    version: str
    lists: PublishedLists
    live: LiveModel
    metrics: Mapping[str, float]
    stamp: tuple[str, float, int] = field(repr=False)

    def list_of(self, user_id: Id) -> pd.DataFrame:
        """A user's rows of the table; no rows where the user has rated every movie. Raises NotFoundError."""
        try:
            return self.lists.of(user_id)
        except NotFoundError:
            if user_id not in self.live.recommender.scorer.user_ids:
                raise
            return self.lists.table.iloc[:0]

    @property
    def calibration_error(self) -> float | None:
        """Expected calibration error on the test rows; None where it was not measured."""
        return self.metrics.get(_CALIBRATION)

    @property
    def scores_are_chances(self) -> bool:
        """Whether a score can be shown as the probability of a like."""
        return self.calibration_error is not None and self.calibration_error <= CALIBRATED


@dataclass(frozen=True)
class Snapshot:
    """All published models of a data set at one time.

    Attributes:
        dataset: the data set's name.
        models: the champions by model name, sorted.
        purposes: what each model is for; the default model comes first.
        people: users, movies and ratings.
        stamp: modification times and sizes of the files of ``people``.
    """

    dataset: str
    models: Mapping[str, PublishedModel]
    purposes: Mapping[str, Purpose]
    people: People
    stamp: _Stamp = field(repr=False)

    def model(self, name: str) -> PublishedModel:
        """The champion of a model. Raises NotFoundError."""
        if name not in self.models:
            raise NotFoundError(f"no model {name!r} of {self.dataset} is published; there are {', '.join(self.models)}")
        return self.models[name]

    @property
    def default(self) -> str:
        """Name of the model that answers a request without a model."""
        return next(iter(self.purposes))


class Published:
    """The published models of a data set, which follow their champions when they are refreshed.

    Attributes:
        dataset: the data set's name.
        current: what was published at the last refresh; replaced as a whole.

    Args:
        home: the pipeline's home.
        dataset: the data set's name; may be left out where only one is published.

    Raises:
        NotFoundError: nothing is published, or not this data set; the message says what to do.
        DataError: a file cannot be used.
    """

    def __init__(self, home: UPath, dataset: str | None = None) -> None:
        self._home = home
        self.dataset = chosen_dataset(home, dataset)
        self._lock = threading.Lock()
        self.current = self._read(None)

    def refresh(self) -> list[str]:
        """Read what has changed; new champions are warmed up before they replace the old ones.

        Returns:
            Names of the models that were read again. A caller that holds the snapshot of before can go on using it.

        Raises:
            NotFoundError, DataError: as above; ``current`` stays as it is.
        """
        with self._lock:
            found = self._read(self.current)
            if found is self.current:
                return []
            changed = [name for name, model in found.models.items() if model is not self.current.models.get(name)]
            for name in changed:
                found.models[name].live.warm_up(found.models[name].lists.moment)
            self.current = found
            return changed

    def _read(self, before: Snapshot | None) -> Snapshot:
        tables = tables_directory(self._home, self.dataset)
        stamp = tuple(file_stamp(tables / f"{name}.parquet") for name in ("users", "movies", "ratings"))
        champions = published_versions(self._home, self.dataset)
        if before and before.stamp != stamp:
            before = None
        people = before.people if before else _people(tables)
        models = {}
        for name, champion in champions.items():
            old, now = before.models.get(name) if before else None, (champion.table.name, *file_stamp(champion.table))
            same = old and (old.version, old.stamp) == (champion.number, now)
            models[name] = old if old and same else _model(name, champion, people, now)
        if before and before.models == models:
            return before
        purposes = purposes_of({name: model.metrics for name, model in models.items()})
        return Snapshot(self.dataset, models, purposes, people, stamp)


def _model(name: str, champion: ArchivedVersion, people: People, stamp: tuple[str, float, int]) -> PublishedModel:
    lists = PublishedLists.load(champion.table, champion.number)
    live = LiveModel(champion.bundle, people)
    return PublishedModel(name, champion.number, lists, live, champion.metrics(), stamp)


def _people(tables: UPath) -> People:
    users, movies, ratings = (
        read_parquet(tables / f"{name}.parquet", columns, optional)
        for name, columns, optional in (
            ("users", ["user_id"], None),
            ("movies", ["movie_id", "title", "movie_year", "genres"], ()),
            ("ratings", ["user_id", "movie_id", "rating", "timestamp"], (LABEL,)),
        )
    )
    return People(users, movies, ratings)
