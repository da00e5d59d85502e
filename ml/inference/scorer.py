"""Score raw ids with a bundle: single pairs, or all pairs of users and movies."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from scipy.special import expit

from ml import schema
from ml.errors import DataError, NotFoundError
from ml.features.moments import middle_of_month
from ml.inference.days_since_first import DaysSinceFirst
from ml.inference.engine.forward import forward_of
from ml.inference.engine.keras_forward import Forward, Grid, KerasOutput
from ml.inference.engine.pair_numbers import PairNumbers
from ml.models.autoint import rating_network
from ml.models.bundle import ModelBundle

PAIR_COLUMNS = ("user_id", "movie_id", "year", "month")


class Scorer:
    """The exact scores of a bundle's network.

    Users and movies are encoded once. The indices of a pair are joined from those of the user, the movie and the
    context.

    Attributes:
        bundle: the model.
        forward: computes its logits.
        user_ids: ids by user index [users].
        movie_ids: ids by movie index [movies].

    Args:
        bundle: the model.
        forward: computes its logits; default: the fastest that gives the network's values.
    """

    def __init__(self, bundle: ModelBundle, forward: Forward | None = None) -> None:
        self.bundle = bundle
        self.forward = forward or forward_of(bundle.network)
        self.user_ids = bundle.users["user_id"].to_numpy()
        self.movie_ids = bundle.movies["movie_id"].to_numpy()
        self._users = self._encoded("user", bundle.users)
        self._movies = self._encoded("movie", bundle.movies)
        self._days_since_first = DaysSinceFirst.of(bundle)
        self._catalogues: dict[tuple[int, int], ScoredCatalogue] = {}  # by year and month

    def _encoded(self, side: schema.Side, table: pd.DataFrame) -> np.ndarray:
        """Indices of a side's features, int32 [rows, features]; 0 for those that the network does not look at."""
        used, names = self.bundle.used.side(side), self.bundle.feature_map.side(side).names
        return used.transform(table).reindex(columns=list(names), fill_value=0).to_numpy(np.int32)

    def indices(self, key: str, ids: pd.Series | Sequence[schema.Id]) -> np.ndarray:
        """Indices of user or movie ids, int32 [n].

        Args:
            key: ``user_id`` or ``movie_id``.
            ids: [n].

        Raises:
            NotFoundError: an unknown id.
        """
        values = self.bundle.feature_map[key].values
        found: np.ndarray = self.bundle.feature_map[key].index.get_indexer(pd.Index(ids)).astype(np.int32)
        if (found < 0).any():
            unknown = pd.Index(ids)[found < 0].tolist()[0]
            raise NotFoundError(
                f"unknown {key} {unknown!r}; the model knows {len(values):,} from {values[0]!r} to {values[-1]!r}"
            )
        return found

    def known_pairs(self, pairs: pd.DataFrame, dtype: Any) -> csr_array:
        """The pairs whose user and movie the model knows, as ``matrix``.

        Args:
            pairs: columns user_id, movie_id.
            dtype: of the matrix.
        """
        users, movies = (
            self.bundle.feature_map[key].index.get_indexer(pd.Index(pairs[key])) for key in ("user_id", "movie_id")
        )
        known = (users >= 0) & (movies >= 0)
        return self.matrix(users[known], movies[known], dtype)

    def matrix(self, users: np.ndarray, movies: np.ndarray, dtype: Any) -> csr_array:
        """Sparse [users, movies], with ones at pairs of indices int [n]."""
        shape = (len(self.user_ids), len(self.movie_ids))
        return csr_array((np.ones(len(users), dtype), (users, movies)), shape=shape)

    def context_indices(self, years: pd.Series, months: pd.Series) -> np.ndarray:
        """Indices [n, context features] of rating years and months 1-12. Raises NotFoundError for unknown ones.

        The other features of the moment, which a year and a month do not tell, have the values that the feature map
        assumes.
        """
        context = pd.DataFrame({"rating_year": years, "rating_month": months})
        feature_map = self.bundle.feature_map
        for name, values in (("rating_year", feature_map.years), ("rating_month", feature_map.months)):
            unknown = context.loc[~context[name].isin(values), name]
            if not unknown.empty:
                known = ", ".join(map(str, values))
                raise NotFoundError(f"unknown {name} {unknown.iloc[0]}; the model was trained on {known}")
        context["rating_decade"] = context["rating_year"].map(schema.decade_of)
        fields = feature_map.side("context")
        assumed = {field.name: field.assumed for field in fields.fields if field.assumed is not None}
        return fields.transform(context.assign(**assumed)).to_numpy(np.int32)

    def score_rows(self, rows: pd.DataFrame) -> np.ndarray:
        """Score full rows, with all features of the feature map, or else pairs; float32 [rows].

        Raises:
            DataError: the columns are of neither form, or a full row has an unknown value.
            NotFoundError: a pair has an unknown value.
        """
        return self.score_indices(*self._row_inputs(rows))

    def predict_ratings(self, rows: pd.DataFrame) -> np.ndarray | None:
        """Predict the ratings of the rows that ``score_rows`` takes, float32 [rows]; None from a network without them.

        Raises:
            DataError, NotFoundError: as ``score_rows``.
        """
        if self._ratings is None:
            return None
        return self._ratings.of(*self._row_inputs(rows))[:, 0]

    @cached_property
    def _ratings(self) -> KerasOutput | None:
        network = rating_network(self.bundle.network)
        return KerasOutput(network) if network else None

    def _row_inputs(self, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray | None]:
        """Indices and numeric features of full rows or pairs. Raises DataError, NotFoundError."""
        if set(self.bundle.feature_map.names) <= set(rows):
            return self.bundle.feature_map.transform(rows).to_numpy(), self._numbers(rows)
        if missing := [name for name in PAIR_COLUMNS if name not in rows]:
            raise DataError(
                f"columns {', '.join(missing)} are missing; expected {', '.join(PAIR_COLUMNS)}, "
                f"or a full row of {', '.join(self.bundle.feature_map.names)}"
            )
        return self._pair_inputs(rows)

    def score_pairs(self, pairs: pd.DataFrame) -> np.ndarray:
        """Score columns user_id, movie_id, year and month; float32 [rows]. Raises NotFoundError.

        Where the network takes the timestamp, it is that of the month's 15th day, 0:00 UTC.
        """
        return self.score_indices(*self._pair_inputs(pairs))

    def _pair_inputs(self, pairs: pd.DataFrame) -> tuple[np.ndarray, np.ndarray | None]:
        users = self.indices("user_id", pairs["user_id"])
        movies = self.indices("movie_id", pairs["movie_id"])
        context = self.context_indices(pairs["year"], pairs["month"])
        numbers = self._numbers(pd.DataFrame({"timestamp": middle_of_month(pairs["year"], pairs["month"])}))
        return self.pair_indices(users, movies, context), numbers

    def catalogue(self, year: int, month: int) -> "ScoredCatalogue":
        """The logits of all pairs of users and movies at one moment, computed on demand.

        Args:
            year: of the imagined rating.
            month: of the imagined rating, 1-12.

        Raises:
            NotFoundError: an unknown moment.
            DataError: the network takes numeric features, for which there is no search.
        """
        if found := self._catalogues.get((year, month)):
            return found
        if self.bundle.numbers:
            raise DataError(
                f"this model takes {', '.join(self.bundle.numbers)} and scores single rows only; use a recipe without "
                "numbers for lists"
            )
        context = self.context_indices(pd.Series([year]), pd.Series([month]))
        return self._catalogues.setdefault((year, month), ScoredCatalogue(self, context))

    def score_encoded(self, encoded: pd.DataFrame) -> np.ndarray:
        """Score rows that the feature map has encoded; probabilities, float32 [rows]."""
        indices = encoded[list(self.bundle.feature_map.names)].to_numpy(np.int32)
        return self.score_indices(indices, self._numbers(encoded))

    def score_indices(self, indices: np.ndarray, numbers: np.ndarray | None = None) -> np.ndarray:
        """Score rows of indices; probabilities, float32 [rows].

        Args:
            indices: int32 [rows, features].
            numbers: float32 [rows, numbers], for a network that takes numeric features.
        """
        probabilities: np.ndarray = expit(self.forward.logits(indices, numbers))
        return probabilities

    def _numbers(self, rows: pd.DataFrame) -> np.ndarray | None:
        """The numeric features, float32 [rows, numbers]; None where the network takes none. Raises DataError."""
        names = list(self.bundle.numbers)
        if missing := [name for name in names if name not in rows]:
            raise DataError(f"columns {', '.join(missing)} are missing; this model needs them beside its fields")
        return rows[names].to_numpy(np.float32) if names else None

    @cached_property
    def grid(self) -> Grid:
        """Rows of users at some moment, columns of all movies."""
        return self.forward.grid(np.array(self.bundle.feature_map.positions("movie")), self._movies)

    @cached_property
    def pair_numbers(self) -> PairNumbers:
        """The network's collaborative features, of left indices and movie indices."""
        numbers = PairNumbers(self.bundle.network)
        columns = list(self.bundle.feature_map.positions("movie"))
        return numbers.with_right(self._movies[:, columns.index(numbers.positions[1])]) if numbers.count else numbers

    def row_indices(self, users: np.ndarray, context: np.ndarray) -> np.ndarray:
        """Indices of the grid's rows, int32 [n, user and context features].

        Args:
            users: user indices [n].
            context: indices [1, context features].
        """
        indices = self.pair_indices(users, np.zeros(len(users), int), context)  # of any movie
        return np.delete(indices, self.bundle.feature_map.positions("movie"), axis=1)

    def pair_indices(self, users: np.ndarray, movies: np.ndarray, context: np.ndarray) -> np.ndarray:
        """Indices of all features of pairs, int32 [n, features].

        Args:
            users: user indices [n].
            movies: movie indices [n].
            context: indices [n, context features] or [1, context features].
        """
        feature_map = self.bundle.feature_map
        indices = np.empty((len(users), len(feature_map.fields)), dtype=np.int32)
        indices[:, feature_map.positions("user")] = self._users[users]
        indices[:, feature_map.positions("movie")] = self._movies[movies]
        indices[:, feature_map.positions("context")] = context
        if days := self._days_since_first:
            indices[:, days.position] = days.indices(users, context)
        return indices


class ScoredCatalogue:
    """A scorer at one moment, as ``ml.inference.engine.shortlist`` expects it."""

    def __init__(self, scorer: Scorer, context: np.ndarray) -> None:
        self._scorer, self._context = scorer, context
        self.shape = (len(scorer.user_ids), len(scorer.movie_ids))

    def pairs(self, users: np.ndarray, movies: np.ndarray) -> np.ndarray:
        """Logits float32 [n] of user and movie indices int [n]."""
        return self._scorer.forward.logits(self._scorer.pair_indices(users, movies, self._context))

    def numbers(self, users: np.ndarray, movies: np.ndarray | slice) -> np.ndarray:
        """Collaborative features of all pairs, float32 [n, features, m], of user indices [n] and movie indices [m].

        A slice of all movies needs no copy of their factors.
        """
        numbers = self._scorer.pair_numbers
        of_users = self._scorer.pair_indices(users, np.zeros(len(users), int), self._context)
        return numbers.of_grid(of_users[:, numbers.positions[0]], movies)

    def rows(self, users: np.ndarray) -> np.ndarray:
        """Logits float32 [n, movies] of user indices int [n]."""
        return self._scorer.grid.logits(self._scorer.row_indices(users, self._context))
