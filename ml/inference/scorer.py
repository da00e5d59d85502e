"""Score raw ids with a bundle: single pairs, or whole users against the whole catalogue."""

from functools import cached_property

import numpy as np
import pandas as pd
from scipy.special import expit

from ml import schema
from ml.errors import DataError, NotFoundError
from ml.inference.engine.forward import Forward, Grid, forward_of
from ml.models.bundle import ModelBundle

PAIR_COLUMNS = ("user_id", "movie_id", "year", "month")


class Scorer:
    """The exact scores of a bundle's network.

    Users and movies are encoded once; a pair's codes are then put together from theirs and from the context's.

    Args:
        bundle: the model.
        forward: what computes its logits; default: the fastest that the network allows.
    """

    def __init__(self, bundle: ModelBundle, forward: Forward | None = None) -> None:
        self.bundle = bundle
        self.forward = forward or forward_of(bundle.network)
        feature_map = bundle.feature_map
        self.user_ids = bundle.users["user_id"].to_numpy()  # [users], rising
        self.movie_ids = bundle.movies["movie_id"].to_numpy()  # [movies], rising
        self._user_codes = feature_map.side("user").transform(bundle.users).to_numpy()  # [users, user fields]
        self._movie_codes = feature_map.side("movie").transform(bundle.movies).to_numpy()  # [movies, movie fields]

    def user_position(self, user_id: int) -> int:
        """Where a user stands in ``user_ids``. Raises NotFoundError."""
        return int(self.positions("user_id", [user_id])[0])

    def positions(self, field: str, ids: pd.Series | list[int]) -> np.ndarray:
        """Positions of user or movie ids, int32 [n]; an id's position is its code. Raises NotFoundError."""
        vocabulary = self.bundle.feature_map[field]
        known = pd.Index(ids).isin(vocabulary.values)
        if not known.all():
            values = vocabulary.values
            raise NotFoundError(
                f"unknown {field} {pd.Index(ids)[~known][0]}; the model knows {len(values):,} from {values[0]} to "
                f"{values[-1]}"
            )
        return vocabulary.encode(ids)

    def context_codes(self, years: pd.Series, months: pd.Series) -> np.ndarray:
        """Codes [n, context fields] of rating years and months 1-12. Raises NotFoundError for unknown ones."""
        context = pd.DataFrame({"rating_year": years, "rating_month": months})
        for field in ("rating_year", "rating_month"):
            values = self.bundle.feature_map[field].values
            unknown = context.loc[~context[field].isin(values), field]
            if not unknown.empty:
                known = ", ".join(map(str, values))
                raise NotFoundError(f"unknown {field} {unknown.iloc[0]}; the model was trained on {known}")
        context["rating_decade"] = context["rating_year"].map(schema.decade_of)
        return self.bundle.feature_map.side("context").transform(context).to_numpy()

    def score_rows(self, rows: pd.DataFrame) -> np.ndarray:
        """Probabilities, float32 [rows], of full rows (every field of the feature map) or else of pairs.

        Raises:
            DataError: neither form's columns are there, or a full row holds an unknown value.
            NotFoundError: a pair holds an unknown value.
        """
        if set(self.bundle.feature_map.names) <= set(rows):
            return self.score_codes(self.bundle.feature_map.transform(rows).to_numpy(), self._numbers(rows))
        if missing := [name for name in PAIR_COLUMNS if name not in rows]:
            raise DataError(
                f"columns {', '.join(missing)} are missing; expected {', '.join(PAIR_COLUMNS)}, "
                f"or a full row of {', '.join(self.bundle.feature_map.names)}"
            )
        return self.score_pairs(rows)

    def score_pairs(self, pairs: pd.DataFrame) -> np.ndarray:
        """Probabilities, float32 [rows], for columns user_id, movie_id, year and month. Raises NotFoundError.

        Where the network takes the timestamp, a month's is that of its 15th day, 0:00 UTC.
        """
        users = self.positions("user_id", pairs["user_id"])
        movies = self.positions("movie_id", pairs["movie_id"])
        context = self.context_codes(pairs["year"], pairs["month"])
        moments = pd.DataFrame({"year": pairs["year"], "month": pairs["month"], "day": 15})
        timestamps = pd.to_datetime(moments).to_numpy("datetime64[s]").astype(np.int64)
        numbers = self._numbers(pd.DataFrame({"timestamp": timestamps}))
        return self.score_codes(self.join_codes(users, movies, context), numbers)

    def catalogue(self, year: int, month: int) -> "ScoredCatalogue":
        """Every user's logits of every movie at one moment, on demand.

        Args:
            year: of the imagined rating.
            month: of the imagined rating, 1-12.

        Raises:
            NotFoundError: an unknown moment.
            DataError: the network takes numbers beside the codes, for which there is no search.
        """
        if self.bundle.numbers:
            raise DataError(
                f"this model takes {', '.join(self.bundle.numbers)} and scores single rows only; use a recipe without "
                "numbers for lists"
            )
        context = self.context_codes(pd.Series([year]), pd.Series([month]))
        return ScoredCatalogue(self, context)

    def score_encoded(self, encoded: pd.DataFrame) -> np.ndarray:
        """Probabilities, float32 [rows], of rows that the feature map has encoded already."""
        codes = encoded[list(self.bundle.feature_map.names)].to_numpy(np.int32)
        return self.score_codes(codes, self._numbers(encoded))

    def score_codes(self, codes: np.ndarray, numbers: np.ndarray | None = None) -> np.ndarray:
        """Probabilities, float32 [rows], of codes int32 [rows, fields] and, where the network takes them, numbers."""
        probabilities: np.ndarray = expit(self.forward.logits(codes, numbers))
        return probabilities

    def _numbers(self, rows: pd.DataFrame) -> np.ndarray | None:
        """The numbers that the network takes, float32 [rows, numbers]; None where it takes none. Raises DataError."""
        names = list(self.bundle.numbers)
        if missing := [name for name in names if name not in rows]:
            raise DataError(f"columns {', '.join(missing)} are missing; this model needs them beside its fields")
        return rows[names].to_numpy(np.float32) if names else None

    @cached_property
    def grid(self) -> Grid:
        """Users at some moment by all movies."""
        return self.forward.grid(np.array(self.bundle.feature_map.positions("movie")), self._movie_codes)

    def row_codes(self, users: np.ndarray, context: np.ndarray) -> np.ndarray:
        """Codes of the grid's rows, int32 [n, user and context fields], of user positions [n] and one context."""
        codes = self.join_codes(users, np.zeros(len(users), int), context)  # of any movie
        return np.delete(codes, self.bundle.feature_map.positions("movie"), axis=1)

    def join_codes(self, users: np.ndarray, movies: np.ndarray, context: np.ndarray) -> np.ndarray:
        """Codes of pairs, int32 [n, fields].

        Args:
            users: positions in ``user_ids`` [n].
            movies: positions in ``movie_ids`` [n].
            context: codes [n, context fields] or [1, context fields].
        """
        feature_map = self.bundle.feature_map
        codes = np.empty((len(users), len(feature_map.fields)), dtype=np.int32)
        codes[:, feature_map.positions("user")] = self._user_codes[users]
        codes[:, feature_map.positions("movie")] = self._movie_codes[movies]
        codes[:, feature_map.positions("context")] = context
        return codes


class ScoredCatalogue:
    """A scorer at one moment, as ``ml.inference.engine.shortlist`` wants it."""

    def __init__(self, scorer: Scorer, context: np.ndarray) -> None:
        self._scorer, self._context = scorer, context
        self.shape = (len(scorer.user_ids), len(scorer.movie_ids))

    def pairs(self, users: np.ndarray, movies: np.ndarray) -> np.ndarray:
        """Logits float32 [n] of positions int [n]."""
        return self._scorer.forward.logits(self._scorer.join_codes(users, movies, self._context))

    def rows(self, users: np.ndarray) -> np.ndarray:
        """Logits float32 [n, movies] of user positions int [n]."""
        return self._scorer.grid.logits(self._scorer.row_codes(users, self._context))
