"""The feature map: one document that encoder, trainer, scorer and service share.

It lists a data set's features with their vocabularies; a value's index is its position in the vocabulary. Values of
the base files come first, sorted; values of ingested batches follow in the order of the batches, so that no index ever
changes.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, get_args

import numpy as np
import pandas as pd

from ml import schema
from ml.errors import DataError
from ml.files import parse_json

_VERSION = 3
# Version 1 was of MovieLens only, and did not say what its data set's description does. Version 2 has only the names of
# multi-valued features; a network of that time holds what it needs of them.
_FIRST = {"version": 1, "multivalued": list(schema.MULTIVALUED), "liked": schema.LIKED_RATING}
_VERSIONS = (1, 2, _VERSION)


@dataclass(frozen=True, kw_only=True)
class FieldVocabulary(schema.Field):
    """A feature and its distinct values in index order; all of them int or all of them str.

    Attributes:
        values: in index order.
        assumed: the value of a moment that is not known, see ``ml.features.moments``; None for other features.
    """

    values: tuple[int, ...] | tuple[str, ...]
    assumed: int | None = None

    @cached_property
    def index(self) -> pd.Index:
        """The values as a pandas index, to look indices up."""
        return pd.Index(self.values)

    def encode(self, values: pd.Series | Sequence[Any]) -> np.ndarray:
        """Return indices, int32 [n]. Raises DataError for an unknown value."""
        given = pd.Index(values)
        positions, distinct = pd.factorize(given, use_na_sentinel=False)  # look up each distinct value once
        indices = self.index.get_indexer(distinct).astype(np.int32)[positions]
        unknown = np.flatnonzero(indices < 0)
        if unknown.size:
            value = given[unknown].tolist()[0]
            raise DataError(f"{self.name} {value!r} is unknown; expected {self._described()}")
        return indices

    def _described(self) -> str:
        if len(self.values) <= 12:
            return "one of " + ", ".join(map(str, self.values))
        return f"one of the {len(self.values):,} known values from {self.index.min()} to {self.index.max()}"


@dataclass(frozen=True)
class FeatureMap:
    """Vocabularies of all features, in the networks' order, and what else the data set's description says.

    Attributes:
        fields: the features as columns of categories; first the keys user_id and movie_id.
        multivalued: multi-valued features, see ``schema.Description``; none has values in a map of version 1 or 2.
        liked: a rating of at least this is a like; None: every row is one.
    """

    fields: tuple[FieldVocabulary, ...]
    multivalued: tuple[FieldVocabulary, ...] = ()
    liked: float | None = schema.LIKED_RATING

    @classmethod
    def grow(
        cls,
        users: pd.DataFrame,
        movies: pd.DataFrame,
        ratings: pd.DataFrame,
        description: schema.Description,
    ) -> "FeatureMap":
        """Fit the vocabularies on all rows ever ingested: values in the order of their first batch, then sorted.

        A user's or movie's value counts from the first batch in which the user or movie has a rating too. Values that a
        later batch has replaced keep their indices.

        Args:
            users: preprocessed rows of ``ml.data.history.history``.
            movies: of the same.
            ratings: of the same, or of ``telling_rows``.
            description: which of their columns are features.
        """
        rows = {
            "user": _rated_rows(users, "user_id", ratings),
            "movie": _rated_rows(movies, "movie_id", ratings),
            "context": ratings,
        }
        fields = [
            FieldVocabulary(field.name, field.side, field.kind, values=_in_order(rows[field.side], field.name))
            for field in description.fields
        ]
        multivalued = []
        for name in description.multivalued:
            single = rows["movie"].assign(**{name: rows["movie"][name].str.split("|")}).explode(name)
            values = _in_order(single[single[name] != ""], name)
            multivalued.append(FieldVocabulary(name, "movie", "multivalued", values=values))
        return cls(tuple(fields), tuple(multivalued), description.liked)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features in order."""
        return tuple(field.name for field in self.fields)

    @property
    def multivalued_names(self) -> tuple[str, ...]:
        """Names of the multi-valued features in order."""
        return tuple(field.name for field in self.multivalued)

    @property
    def field_dims(self) -> tuple[int, ...]:
        """Number of values of each feature, in order."""
        return tuple(len(field.values) for field in self.fields)

    @property
    def values(self) -> dict[str, tuple[int, ...] | tuple[str, ...]]:
        """Values of each feature in index order."""
        return {field.name: field.values for field in self.fields}

    @property
    def has_times(self) -> bool:
        """Whether ratings have times, so that there are features of them."""
        return bool(self.side("context").fields)

    @property
    def years(self) -> tuple[int, ...]:
        """Years of ratings in index order; without times, that of timestamp 0."""
        return self._moments("rating_year", 1970)

    @property
    def months(self) -> tuple[int, ...]:
        """Months of ratings (1-12) in index order; without times, that of timestamp 0."""
        return self._moments("rating_month", 1)

    def _moments(self, name: str, none: int) -> tuple[int, ...]:
        return tuple(map(int, self[name].values)) if name in self.names else (none,)

    def __getitem__(self, name: str) -> FieldVocabulary:
        """Return the vocabulary of one feature, multi-valued or not."""
        return {field.name: field for field in (*self.fields, *self.multivalued)}[name]

    def side(self, side: schema.Side) -> "FeatureMap":
        """Return the map of one side's features only, in order."""
        return replace(self, fields=tuple(field for field in self.fields if field.side == side))

    def positions(self, side: schema.Side) -> list[int]:
        """Return the positions of one side's features among all."""
        return [position for position, field in enumerate(self.fields) if field.side == side]

    def known(self, name: str, table: pd.DataFrame) -> pd.DataFrame:
        """Return the known rows of a users or movies table in index order; ``name`` is the table's key."""
        return table.set_index(name).loc[list(self[name].values)].reset_index()

    def knows(self, frame: pd.DataFrame) -> np.ndarray:
        """Return for which rows all values are known, bool [rows]."""
        known = [frame[field.name].isin(field.index).to_numpy() for field in self.fields]
        return np.logical_and.reduce(known)

    def transform(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Encode every feature as an int32 column of indices, with the index and row order of ``frame``.

        Raises:
            DataError: a column is missing or has an unknown value.
        """
        missing = [name for name in self.names if name not in frame]
        if missing:
            raise DataError(f"columns {', '.join(missing)} are missing; expected {', '.join(self.names)}")
        indices = {field.name: field.encode(frame[field.name]) for field in self.fields}
        return pd.DataFrame(indices, index=frame.index)

    def to_dict(self) -> dict[str, Any]:
        """Return a document for JSON.

        Its keys: version, liked, and fields and multivalued, lists of features with name, side, kind, size and values.
        """
        return {
            "version": _VERSION,
            "liked": self.liked,
            "fields": [_document_of(field) for field in self.fields],
            "multivalued": [_document_of(field) for field in self.multivalued],
        }

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> "FeatureMap":
        """Return the map of a document made by ``to_dict``. Raises DataError for any other document."""
        if not isinstance(document, dict) or document.get("version") not in _VERSIONS:
            found = document.get("version") if isinstance(document, dict) else document
            raise DataError(f"feature map version {found!r}; expected {_VERSION}")
        if document["version"] == _FIRST["version"]:
            document = {**document, **_FIRST}
        described, multivalued, liked = (document.get(key) for key in ("fields", "multivalued", "liked"))
        if not isinstance(described, list) or not described:
            raise DataError("feature map: expected a list of fields")
        fields = tuple(_read_field(field) for field in described)
        multivalued = _read_multivalued(multivalued, document["version"])
        names = [field.name for field in (*fields, *multivalued)]
        if len(set(names)) != len(names):
            raise DataError(f"feature map: fields {', '.join(names)}; expected each once")
        if liked is not None and type(liked) not in (int, float):
            raise DataError(f"feature map: liked {liked!r}; expected a number, or null")
        return cls(fields, multivalued, liked)

    def to_json(self) -> bytes:
        """Return the document as JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, data: bytes, where: str) -> "FeatureMap":
        """Read what ``to_json`` returned. Raises DataError that calls the document ``where``."""
        document = parse_json(data, where)
        try:
            return cls.from_dict(document)
        except DataError as error:
            raise DataError(f"{where}: {error}") from error


def _rated_rows(rows: pd.DataFrame, key: str, ratings: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of users or movies that have a rating, with the batch from which both are there."""
    first_rated = rows[key].map(ratings.groupby(key)["ingestion_batch"].min())
    rows = rows[first_rated.notna()]
    came = rows["ingestion_batch"].clip(lower=first_rated.dropna().astype("int32"))
    return rows.assign(ingestion_batch=came)


def _in_order(rows: pd.DataFrame, name: str) -> tuple[Any, ...]:
    """Return the distinct values of a column in the order of their first batch, then sorted."""
    first = rows.groupby(name)["ingestion_batch"].min().rename("came").reset_index()
    return tuple(first.sort_values(["came", name])[name].tolist())


def _document_of(field: FieldVocabulary) -> dict[str, Any]:
    values = list(field.values)
    document = {"name": field.name, "side": field.side, "kind": field.kind, "size": len(values), "values": values}
    return document if field.assumed is None else {**document, "assumed": field.assumed}


def _read_multivalued(described: Any, version: int) -> tuple[FieldVocabulary, ...]:
    """Read the multi-valued features of a document. Raises DataError."""
    if not isinstance(described, list):
        raise DataError(f"feature map: multivalued {described!r}; expected a list")
    if version == _VERSION:
        return tuple(_read_field(field, may_be_empty=True) for field in described)
    if not all(isinstance(name, str) for name in described):
        raise DataError(f"feature map: multivalued {described!r}; expected a list of names")
    return tuple(FieldVocabulary(name, "movie", "multivalued", values=()) for name in described)


def _read_field(field: Any, may_be_empty: bool = False) -> FieldVocabulary:
    """Read a feature of a document. Raises DataError."""
    try:
        name, side, size, values = (field[key] for key in ("name", "side", "size", "values"))
        kind = field.get("kind", "categorical")  # version 1 has none
    except (KeyError, TypeError) as error:
        raise DataError(f"feature map: a field has no name, side, size or values ({error!r})") from error
    if not isinstance(name, str) or side not in get_args(schema.Side):
        raise DataError(f"feature map field {name!r}: side {side!r}; expected {', '.join(get_args(schema.Side))}")
    if kind not in get_args(schema.Kind):
        raise DataError(f"feature map field {name}: kind {kind!r}; expected {', '.join(get_args(schema.Kind))}")
    kinds = ({int}, {str}, set()) if may_be_empty else ({int}, {str})
    if not isinstance(values, list) or {type(value) for value in values} not in kinds:
        raise DataError(f"feature map field {name}: expected values that are all integers or all strings")
    if len(values) != size or len(set(values)) != size:
        raise DataError(f"feature map field {name}: expected {size} distinct values")
    assumed = field.get("assumed")
    if assumed is not None and (type(assumed) is not int or assumed not in values):
        raise DataError(f"feature map field {name}: assumed {assumed!r}; expected one of its values")
    return FieldVocabulary(name, side, kind, values=tuple(values), assumed=assumed)
