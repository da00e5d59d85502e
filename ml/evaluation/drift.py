"""Measure how far tonight's new ratings are from the previous night's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ml import schema
from ml.errors import DataError

BASE = 0  # number of the ingestion and the batch of the base files
BINS = 10
FLOOR = 1e-3  # smallest share of a bin
CHANCE = 1e-3  # probability that the index exceeds ``index_by_chance`` if nothing has changed
TOTALS = ("ratings", "users", "movies", "positive_share")
_ALL = "all"  # value of ``field`` for totals over all rows


@dataclass(frozen=True)
class Bins:
    """A partition of a feature's values; the last bin is for unknown values.

    Attributes:
        values: the known values, sorted.
        bin: int [values], the bin of each value.
    """

    values: pd.Index
    bin: np.ndarray

    @classmethod
    def of(cls, sample: pd.Series, limit: int = BINS) -> "Bins":
        """Create bins with about the same number of rows of a sample.

        If the sample has at most ``limit`` distinct values, each is a bin. Otherwise, sorted values with the same
        ``floor(limit * m)`` are a bin, where m is the share of rows with smaller values plus half of the value's own
        share. This makes ``limit`` bins, or fewer if one value has more rows than a bin should have.
        """
        counts = sample.value_counts().sort_index()
        rows = counts.to_numpy(np.float64)
        if len(counts) <= limit:
            return cls(counts.index, np.arange(len(counts)))
        middle = (rows.cumsum() - rows / 2) / rows.sum()
        return cls(counts.index, np.unique((middle * limit).astype(int), return_inverse=True)[1])

    @property
    def count(self) -> int:
        """Return the number of bins, including the one for unknown values."""
        return int(self.bin.max(initial=-1)) + 2

    def shares(self, sample: pd.Series) -> np.ndarray:
        """Return the share of a sample's rows in each bin, float64 [count]. Raises ValueError for an empty sample."""
        if sample.empty:
            raise ValueError("the sample has no rows")
        counts = sample.value_counts()
        place = self.values.get_indexer(counts.index)
        bin_of = np.full(len(counts), self.count - 1)
        bin_of[place >= 0] = self.bin[place[place >= 0]]
        return np.bincount(bin_of, counts.to_numpy(np.float64), minlength=self.count) / len(sample)


def stability_index(expected: pd.Series, actual: pd.Series, bins: Bins | None = None) -> float:
    """Compute the population stability index: the sum over bins of ``(a - e) * ln(a / e)``.

    Here e and a are the shares of the expected and the actual sample in a bin. A share below ``FLOOR`` counts as
    ``FLOOR``, so that a bin that is empty in one sample has a large but finite weight. By convention, less than 0.1 is
    a minor and more than 0.25 a major shift (Siddiqi, Credit Risk Scorecards, 2006).

    Args:
        expected: values of one feature, [rows].
        actual: values of the same feature, [rows].
        bins: bins of the feature's values; default: bins of ``expected``.

    Returns:
        The index, at least 0.

    Raises:
        ValueError: a sample has no rows.
    """
    bins = bins or Bins.of(expected)
    e, a = (np.maximum(bins.shares(sample), FLOOR) for sample in (expected, actual))
    return float(((a - e) * np.log(a / e)).sum())


def index_by_chance(bins: int, expected: int, actual: int) -> float:
    """Compute the value that the index of two samples of one population exceeds only with probability ``CHANCE``.

    It is ``(1 / expected + 1 / actual)`` times the quantile of the chi-squared distribution with ``bins - 1`` degrees
    of freedom (Yurdakul, Statistical Properties of Population Stability Index, 2018).

    Args:
        bins: number of bins with rows in either sample.
        expected: number of independent rows in one sample.
        actual: number of independent rows in the other.
    """
    from scipy.special import chdtri

    return float((1 / expected + 1 / actual) * chdtri(bins - 1, CHANCE)) if bins > 1 else 0.0


@dataclass(frozen=True)
class Comparison:
    """Tonight's new ratings compared with the previous night's.

    If a user rates a movie again, the rating counts for the ingestion of the current one.

    Attributes:
        tonight: number of the last ingestion; ``BASE`` if there are only the base files.
        before: number of the latest earlier ingestion with ratings, or ``BASE``.
        totals: one row per ingestion, indexed by its number, ``BASE`` first: ratings (int64), users, movies (int64,
            distinct), positive_share (float64, of the ratings; NaN if there are none).
        fields: one row per feature, in the order of the feature map: field (str), stability_index (float64, of both
            nights), by_chance (float64, ``index_by_chance`` for the numbers of users), unknown_share (float64, share of
            tonight's rows whose value is in no earlier row). Empty if there is no night, or one without ratings.
    """

    tonight: int
    before: int
    totals: pd.DataFrame
    fields: pd.DataFrame

    def total(self, measure: str, ingestion: int) -> float:
        """Return one of ``TOTALS`` of an ingestion."""
        return float(self.totals[measure][ingestion])

    @property
    def table(self) -> pd.DataFrame:
        """Return all figures: ingestion (int64), measure (str), field (str, ``all`` for totals), value (float64)."""
        totals = self.totals.reset_index().melt("ingestion", var_name="measure").assign(field=_ALL)
        fields = self.fields.melt("field", var_name="measure").assign(ingestion=self.tonight)
        parts = [totals, fields] if len(fields) else [totals]
        columns = {"ingestion": "int64", "measure": "str", "field": "str", "value": "float64"}
        return pd.concat([part[list(columns)] for part in parts], ignore_index=True).astype(columns)

    @property
    def figures(self) -> dict[str, float]:
        """Return tonight's figures as ``<measure>`` or ``<measure>_<field>``; empty if there are only base files."""
        if self.tonight == BASE:
            return {}
        table = self.table
        tonight = table[(table["ingestion"] == self.tonight) & (table["measure"] != "by_chance")].dropna(subset="value")
        rows = tonight[["measure", "field", "value"]].itertuples(index=False)
        return {measure if field == _ALL else f"{measure}_{field}": value for measure, field, value in rows}


def compare_nights(
    interactions: pd.DataFrame, batches: Mapping[str, Any], fields: Sequence[schema.Field]
) -> Comparison:
    """Compare the ratings of the last ingestion with the previous one's, or with the base files if it is the first.

    The bins of a feature are computed on the rows before both nights (on the base files if these are one of the two),
    so that a value is unknown to both or to neither. User features count each user of a night once; others count
    rows. Since rows of one user are not independent, ``by_chance`` is always computed with the numbers of users.

    Args:
        interactions: ingestion_batch (int), label and the features, one row per rating.
        batches: ``{"files": [{"sequence": int, "ingestion": int, ...}]}``; files with ``withdrawn`` do not count.
        fields: the features.

    Returns:
        The comparison.

    Raises:
        DataError: a row's batch is not among the files.
    """
    counting = [file for file in batches["files"] if not file.get("withdrawn")]
    ingestion_of = {BASE: BASE, **{file["sequence"]: file["ingestion"] for file in counting}}
    ingestion = interactions["ingestion_batch"].map(ingestion_of)
    if ingestion.isna().any():
        unknown = interactions.loc[ingestion.isna(), "ingestion_batch"].iloc[0]
        raise DataError(
            f"interactions, ingestion_batch: found {unknown}, expected at most {max(ingestion_of)}, the last batch of "
            "ingestion_batches.json; materialize ingestion_batches and everything downstream"
        )
    totals = _totals(interactions, ingestion.astype(np.int64), sorted(set(ingestion_of.values())))
    tonight = int(totals.index[-1])
    if tonight == BASE:
        return Comparison(BASE, BASE, totals, _no_fields())
    earlier = totals.index[(totals["ratings"] > 0) & (totals.index < tonight)]
    before = int(earlier.max()) if len(earlier) else BASE
    nights = {
        "tonight": interactions[ingestion == tonight],
        "before": interactions[ingestion == before],
        "known": interactions[ingestion < max(before, BASE + 1)],
        "earlier": interactions[ingestion < tonight],
    }
    comparable = len(nights["tonight"]) and len(nights["before"])
    return Comparison(tonight, before, totals, _fields(nights, fields) if comparable else _no_fields())


def _totals(interactions: pd.DataFrame, ingestion: pd.Series, ingestions: list[int]) -> pd.DataFrame:
    columns = {
        "ratings": ("user_id", "size"),
        "users": ("user_id", "nunique"),
        "movies": ("movie_id", "nunique"),
        "positive_share": (schema.LABEL, "mean"),
    }
    found = interactions.groupby(ingestion.rename("ingestion")).agg(**columns)
    found = found.reindex(pd.Index(ingestions, name="ingestion"))
    counts = ["ratings", "users", "movies"]
    return found.assign(**found[counts].fillna(0).astype(np.int64))[list(TOTALS)]


def _no_fields() -> pd.DataFrame:
    columns = {"field": "str", "stability_index": "float64", "by_chance": "float64", "unknown_share": "float64"}
    return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in columns.items()})


def _fields(nights: Mapping[str, pd.DataFrame], fields: Sequence[schema.Field]) -> pd.DataFrame:
    users = {name: rows.drop_duplicates("user_id") for name, rows in nights.items()}
    found = []
    for field in fields:
        units = users if field.side == "user" else nights
        before, tonight = units["before"][field.name], units["tonight"][field.name]
        bins = Bins.of(units["known"][field.name])
        used = int((bins.shares(before) + bins.shares(tonight) > 0).sum())
        known = nights["tonight"][field.name].isin(nights["earlier"][field.name].unique())
        found.append(
            {
                "field": field.name,
                "stability_index": stability_index(before, tonight, bins),
                "by_chance": index_by_chance(used, len(users["before"]), len(users["tonight"])),
                "unknown_share": float(1 - known.mean()),
            }
        )
    return pd.DataFrame(found)
