"""The data sets of datasets.yaml: where their files are, how they are read, and what their columns mean."""

import math
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, field_validator, model_validator

from ml import schema
from ml.data.slots import slot_names
from ml.settings_file import read_settings

DEFAULT = "ml-1m"  # of datasets.yaml
_SUFFIXES = (".csv", ".parquet")
# Columns that the pipeline's tables have anyway.
_RESERVED = frozenset(
    {*schema.FIELD_NAMES, "rating", "timestamp", "title", "genres", "label", "row", "score", "rank", *schema.ORIGIN}
    | {*schema.MOMENT_NAMES, schema.FIRST_TIMESTAMP}
)
_NAME = "[a-z0-9][a-z0-9._-]{0,63}"  # of a data set: part of directories, MLflow's names and addresses
Reader = Literal["movielens-100k", "movielens-1m", "movielens-10m", "movielens-csv", "table"]


def _path(text: str) -> str:
    if Path(text).suffix not in _SUFFIXES:
        raise ValueError(f"expected a file or pattern of files that ends in {' or '.join(_SUFFIXES)}")
    return text


_Path = Annotated[str, AfterValidator(_path)]
IdType = Literal["string", "integer"]


class Feature(BaseModel, frozen=True, extra="forbid"):
    """A feature of users or items."""

    kind: schema.Kind = Field(description="categorical, numeric or multivalued.")
    column: str | None = Field(default=None, description="Column of the file, if it is not named like the feature.")
    separator: str = Field(default="|", min_length=1, description="Between the values of a multi-valued feature.")
    bins: int = Field(default=10, ge=2, le=100, description="Ranges of a numeric feature, about equally frequent.")


class Side(BaseModel, frozen=True, extra="forbid"):
    """The table of users or items."""

    path: _Path = Field(description="A CSV or Parquet file, or a pattern of files.")
    key: str = Field(description="Column of the id.")
    features: dict[str, Feature] = Field(default={}, description="Features by name.")

    @model_validator(mode="before")
    @classmethod
    def _kinds_are_features(cls, document: object) -> object:
        """Let a feature be its kind alone, such as ``brand: categorical``."""
        if isinstance(document, dict) and isinstance(features := document.get("features"), dict):
            short = {name: {"kind": each} if isinstance(each, str) else each for name, each in features.items()}
            return {**document, "features": short}
        return document

    @model_validator(mode="after")
    def _names_can_be_columns(self) -> "Side":
        for name, feature in self.features.items():
            if not re.fullmatch("[a-z][a-z0-9_]{0,40}", name) or {name, *columns_of(name, feature)} & _RESERVED:
                raise ValueError(
                    f"a feature cannot be named {name!r}; expected lowercase letters, digits and underscores, and "
                    f"none of {', '.join(sorted(_RESERVED))}; its setting column says what the file calls it"
                )
        return self


class Items(Side, frozen=True, extra="forbid"):
    """The table of items."""

    title: str | None = Field(default=None, description="Column of the name that lists show; without it, the id.")


class Ratings(BaseModel, frozen=True, extra="forbid"):
    """The table of ratings, or of anything that users do with items."""

    path: _Path = Field(description="A CSV or Parquet file, or a pattern of files.")
    user: str = Field(description="Column of the user's id.")
    item: str = Field(description="Column of the item's id.")
    rating: str | None = Field(default=None, description="Column of the rating; none: every row is a like.")
    timestamp: str | None = Field(
        default=None, description="Column of the time: Unix seconds, or dates and times in the form of ISO 8601."
    )


class Ids(BaseModel, frozen=True, extra="forbid"):
    """Types of the ids."""

    user: IdType = Field(default="string", description="Of users: string, or integer from 0 to 2147483647.")
    item: IdType = Field(default="string", description="Of items, likewise.")


class Archive(BaseModel, frozen=True, extra="forbid"):
    """A zip archive with the files, downloaded once."""

    url: str = Field(pattern="^https?://", description="Its address.")
    md5: str = Field(pattern="^[0-9a-f]{32}$", description="Digest of the archive; another one is refused.")


class Expected(BaseModel, frozen=True, extra="forbid"):
    """Numbers of rows; a data set with others is refused."""

    users: int | None = Field(default=None, ge=1, description="Users in their file, or who have rated.")
    items: int | None = Field(default=None, ge=1, description="Items in their file, or that were rated.")
    ratings: int | None = Field(default=None, ge=1, description="Ratings.")
    values: tuple[int, ...] | None = Field(default=None, description="Distinct values of each feature, in their order.")


class Dataset(BaseModel, frozen=True, extra="forbid"):
    """A data set: the files of a MovieLens, or tables whose columns are named here."""

    reader: Reader = Field(description="How the files are read.")
    path: str | None = Field(default=None, description="Directory of a MovieLens's files; relative to datasets.yaml.")
    archive: Archive | None = Field(default=None, description="Where a MovieLens is downloaded from, without a path.")
    expect: Expected = Field(default=Expected(), description="What is known of its size; another size is refused.")
    liked: float | Literal["all"] = Field(
        default=schema.LIKED_RATING, description="A rating of at least this is a like; all: every row is one."
    )
    ratings: Ratings | None = Field(default=None, description="Of the reader table: the ratings.")
    items: Items | None = Field(default=None, description="Of the reader table: the items; without it, those rated.")
    users: Side | None = Field(default=None, description="Of the reader table: the users; without it, who has rated.")
    ids: Ids = Field(default=Ids(), description="Of the reader table: types of the ids.")

    @field_validator("liked")
    @classmethod
    def _is_a_number(cls, liked: float | str) -> float | str:
        if isinstance(liked, float) and not math.isfinite(liked):
            raise ValueError("expected a number, or all")
        return liked

    @model_validator(mode="after")
    def _files_are_named(self) -> "Dataset":
        if self.reader == "table":
            if not self.ratings or self.path or self.archive:
                raise ValueError("the reader table expects ratings, with their path, and neither path nor archive")
        elif self.ratings or self.items or self.users or self.ids != Ids():
            raise ValueError(f"ratings, items, users and ids are of the reader table; {self.reader} knows its columns")
        elif (self.path is None) == (self.archive is None):
            raise ValueError("expected either path, a directory, or archive")
        return self

    @model_validator(mode="after")
    def _likes_can_be_told(self) -> "Dataset":
        if self.liked != "all" and self.ratings and self.ratings.rating is None:
            raise ValueError("liked: expected 'all', since ratings names no column of ratings")
        own = [name for side in (self.users, self.items) if side for name in side.features]
        if len(own) > len(set(own)):
            raise ValueError("features: expected each name once, in users or in items")
        return self

    @property
    def own_features(self) -> tuple[str, ...]:
        """Features of users and items that are named here, as columns of categories."""
        sides = [side.features for side in (self.users, self.items) if side]
        return tuple(column for own in sides for name, feature in own.items() for column in columns_of(name, feature))


def columns_of(name: str, feature: Feature) -> tuple[str, ...]:
    """Return the columns of categories that a feature becomes."""
    return slot_names(name) if feature.kind == "multivalued" else (name,)


def _checked_name(name: str) -> str:
    if not re.fullmatch(_NAME, name):
        raise ValueError("expected lowercase letters, digits, '.', '_' and '-', at most 64, first a letter or digit")
    return name


class _Datasets(BaseModel, frozen=True, extra="forbid"):
    """Content of the file."""

    datasets: dict[Annotated[str, AfterValidator(_checked_name)], Dataset]


def load_datasets(path: Path) -> dict[str, Dataset]:
    """Return the data sets by name, in the file's order. Raises DataError that names data set, key and value."""
    return dict(read_settings(path, _Datasets).datasets)
