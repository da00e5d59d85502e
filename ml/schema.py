"""Facts about columns: what the raw files contain, and which features the models use."""

from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
from pandas.api.types import is_integer_dtype

from ml.errors import DataError

Side = Literal["user", "movie", "context"]
Kind = Literal["categorical", "numeric", "multivalued"]
Id = int | str  # of a user or a movie; all users of a data set have ids of one type, and so do all movies
IdType = type[int] | type[str]


@dataclass(frozen=True)
class Field:
    """A feature of the models, as a column of categories.

    Attributes:
        name: column name in the interactions table.
        side: whether the value belongs to the user, the movie or the time of the rating.
        kind: what the categories come from: categories, ranges of a number, or one of several values.
    """

    name: str
    side: Side
    kind: Kind = "categorical"


@dataclass(frozen=True)
class Description:
    """What the preprocessed tables of a data set mean.

    Attributes:
        fields: features as columns of categories, in the networks' order; first the keys user_id and movie_id.
        multivalued: multi-valued features: columns of movies, values separated by |.
        liked: a rating of at least this is a like; None: every row is one.
    """

    fields: tuple[Field, ...]
    multivalued: tuple[str, ...] = ()
    liked: float | None = None

    @property
    def has_times(self) -> bool:
        """Whether ratings have a time; without one, their timestamp is 0 and there are no features of it."""
        return any(field.side == "context" for field in self.fields)


FIELDS: tuple[Field, ...] = (
    Field("user_id", "user"),
    Field("movie_id", "movie"),
    Field("movie_decade", "movie"),
    Field("movie_year", "movie"),
    Field("rating_year", "context"),
    Field("rating_month", "context"),
    Field("rating_decade", "context"),
    Field("genre1", "movie", "multivalued"),
    Field("genre2", "movie", "multivalued"),
    Field("genre3", "movie", "multivalued"),
    Field("gender", "user"),
    Field("age", "user"),
    Field("occupation", "user"),
    Field("zip", "user"),
)


FIELD_NAMES: tuple[str, ...] = tuple(field.name for field in FIELDS)
RATING_HOUR, RATING_WEEKDAY = "rating_hour", "rating_weekday"
DAYS_SINCE_FIRST, SESSION_POSITION = "days_since_first", "session_position"
# Features that only recipes have that ask for them; ``ml.features.moments`` defines their values.
MOMENTS: tuple[Field, ...] = (
    Field(RATING_HOUR, "context"),
    Field(RATING_WEEKDAY, "context"),
    Field(DAYS_SINCE_FIRST, "context", "numeric"),
    Field(SESSION_POSITION, "context", "numeric"),
)
MOMENT_NAMES: tuple[str, ...] = tuple(field.name for field in MOMENTS)
FIRST_TIMESTAMP = "first_timestamp"  # of a user in a bundle: time of the first training row, Unix seconds
MULTIVALUED: tuple[str, ...] = ("genres",)  # multi-valued features: columns of movies, values separated by |
NUMBERS: tuple[str, ...] = ("timestamp",)  # numeric features: columns of the encoded interactions
LABEL = "label"
BATCH = "ingestion_batch"  # column of interactions: number of the batch that the rating came with; 0: base files
ORIGIN: tuple[str, ...] = (BATCH, "first_ingestion_batch")  # the latter: batch of the user's first rating of the movie
LIKED_RATING = 4  # a rating of at least this is a like, unless the data set's description says otherwise
MOVIELENS = Description(FIELDS, MULTIVALUED, LIKED_RATING)  # of a MovieLens with all features
LARGEST_ID = 2**31 - 1  # integer ids are from 0 to this, since tables store them as int32
LONGEST_ID = 200  # characters of an id that is a string

# Values in the files of MovieLens (https://files.grouplens.org/datasets/movielens/ml-1m-README.txt).
GENDERS: tuple[str, ...] = ("F", "M")
AGE_GROUPS: dict[int, str] = {
    1: "under 18",
    18: "18-24",
    25: "25-34",
    35: "35-44",
    45: "45-49",
    50: "50-55",
    56: "56 or over",
}
OCCUPATIONS: tuple[str, ...] = (
    "other",
    "academic or educator",
    "artist",
    "clerical or admin",
    "college or graduate student",
    "customer service",
    "doctor or health care",
    "executive or managerial",
    "farmer",
    "homemaker",
    "school student",
    "lawyer",
    "programmer",
    "retired",
    "sales or marketing",
    "scientist",
    "self-employed",
    "technician or engineer",
    "tradesman or craftsman",
    "unemployed",
    "writer",
)
NO_GENRES = "(no genres listed)"  # instead of a movie's genres
NO_YEAR = 0  # of a movie whose title names none


def decade_of(year: int) -> str:
    """Return the decade's name, e.g. ``"1990s"`` for 1995; ``"unknown"`` for ``NO_YEAR``."""
    return "unknown" if year == NO_YEAR else f"{year // 10 * 10}s"


def likes(ratings: pd.Series, liked: float | None) -> pd.Series:
    """Return which ratings are likes, bool: those of at least ``liked``; None: all of them."""
    return ratings >= liked if liked is not None else ratings.notna()


def id_type(ids: Any) -> IdType:
    """Return the type of the ids in a Series, an Index or an array: int, or else str."""
    return int if is_integer_dtype(ids.dtype) else str


def parse_id(text: str, kind: IdType) -> Id:
    """Parse the id of a user or a movie; a string is taken literally. Raises DataError.

    Args:
        text: the id as text.
        kind: the type of such ids in the data set.
    """
    if kind is str:
        if not 0 < len(text) <= LONGEST_ID:
            raise DataError(f"{text[:LONGEST_ID]!r} is not an id; expected 1 to {LONGEST_ID} characters")
        return text
    is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(LARGEST_ID))
    if not is_number or int(text) > LARGEST_ID:
        raise DataError(f"{text!r} is not an id; expected an integer from 0 to {LARGEST_ID}")
    return int(text)


@dataclass(frozen=True)
class DatasetSize:
    """Expected sizes of a data set; None: any.

    Attributes:
        users, movies, ratings: rows of the raw tables.
        field_dims: number of distinct values of each feature among the interactions, in the feature map's order.
    """

    users: int | None = None
    movies: int | None = None
    ratings: int | None = None
    field_dims: tuple[int, ...] | None = None
