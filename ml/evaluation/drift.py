"""How far tonight's new ratings are from those of the night before."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ml import schema
from ml.errors import DataError

BASE = 0  # the ingestion, and the batch, that the base files count as
BINS = 10
FLOOR = 1e-3  # what an emptier bin's share counts as
CHANCE = 1e-3  # how often an index is above ``index_by_chance`` where nothing has changed
TOTALS = ("ratings", "users", "movies", "positive_share")
_ALL = "all"  # the field of figures that are of all rows


@dataclass(frozen=True)
class Bins:
    """A partition of a field's values, with a bin of its own, the last one, for values that are in no other.

    Attributes:
        values: the known values, in rising order (numbers by size, text by character).
        bin: int [values], the bin of each.
    """

    values: pd.Index
    bin: np.ndarray

    @classmethod
    def of(cls, sample: pd.Series, limit: int = BINS) -> "Bins":
        """Bins of about equally many rows of a sample.

        Where the sample has at most ``limit`` values, each is a bin. Else the values, in rising order, are cut where
        the rows before a value and half of its own pass another ``1 / limit`` of all rows, which makes ``limit`` bins,
        or fewer where one value has more rows than a bin should have.
        """
        counts = sample.value_counts().sort_index()
        rows = counts.to_numpy(np.float64)
        if len(counts) <= limit:
            return cls(counts.index, np.arange(len(counts)))
        middle = (rows.cumsum() - rows / 2) / rows.sum()
        return cls(counts.index, np.unique((middle * limit).astype(int), return_inverse=True)[1])

    @property
    def count(self) -> int:
        """Number of bins, that of unknown values included."""
        return int(self.bin.max(initial=-1)) + 2

    def shares(self, sample: pd.Series) -> np.ndarray:
        """Share of a sample's rows in each bin, float64 [count]. Raises ValueError for a sample without rows."""
        if sample.empty:
            raise ValueError("no rows to take shares of")
        counts = sample.value_counts()
        place = self.values.get_indexer(counts.index)
        bin_of = np.full(len(counts), self.count - 1)
        bin_of[place >= 0] = self.bin[place[place >= 0]]
        return np.bincount(bin_of, counts.to_numpy(np.float64), minlength=self.count) / len(sample)


def stability_index(expected: pd.Series, actual: pd.Series, bins: Bins | None = None) -> float:
    """Population stability index: the sum over bins of ``(a - e) ln(a / e)``, of the shares e expected and a actual.

    A share below ``FLOOR`` counts as ``FLOOR``, so that a bin that is empty in one sample weighs much, but not
    infinitely much. By custom, less than 0.1 is little and more than 0.25 a marked shift (Siddiqi, Credit Risk
    Scorecards, 2006).

    Args:
        expected: values of one field, [rows].
        actual: values of the same field, [rows].
        bins: of the field's values; those of ``expected`` if none are given.

    Raises:
        ValueError: a sample has no rows.
    """
    bins = bins or Bins.of(expected)
    e, a = (np.maximum(bins.shares(sample), FLOOR) for sample in (expected, actual))
    return float(((a - e) * np.log(a / e)).sum())


def index_by_chance(bins: int, expected: int, actual: int) -> float:
    """What the stability index of two samples of one population exceeds with probability ``CHANCE`` only.

    ``(1 / expected + 1 / actual)`` times the quantile of the chi-squared distribution with ``bins - 1`` degrees of
    freedom (Yurdakul, Statistical Properties of Population Stability Index, 2018).

    Args:
        bins: number of bins with rows of either sample.
        expected: number of independent rows of one sample.
        actual: number of independent rows of the other.
    """
    from scipy.special import chdtri

    return float((1 / expected + 1 / actual) * chdtri(bins - 1, CHANCE)) if bins > 1 else 0.0


@dataclass(frozen=True)
class Comparison:
    """Tonight's new ratings beside those of the night before.

    A rating that somebody has given anew counts for the ingestion that the present one came with.

    Attributes:
        tonight: the last ingestion; ``BASE`` where there are the base files alone.
        before: the latest ingestion before it that has ratings, or ``BASE``.
        totals: one row an ingestion, indexed by it, ``BASE`` first: ratings, users, movies (int64, distinct),
            positive_share (float64, of the ratings; NaN without any).
        fields: one row a field, in the order of ``schema.FIELDS``: field (str), stability_index and by_chance (float64,
            of both nights, see ``stability_index`` and ``index_by_chance``, the latter by users), unknown_share
            (float64, share of tonight's rows whose value is in no earlier row). No rows where there is no night, or one
            without ratings.
    """

    tonight: int
    before: int
    totals: pd.DataFrame
    fields: pd.DataFrame

    def total(self, measure: str, ingestion: int) -> float:
        """One of ``TOTALS`` of an ingestion."""
        return float(self.totals[measure][ingestion])

    @property
    def table(self) -> pd.DataFrame:
        """All figures: ingestion (int64), measure (str), field (str, ``all`` for totals), value (float64)."""
        totals = self.totals.reset_index().melt("ingestion", var_name="measure").assign(field=_ALL)
        fields = self.fields.melt("field", var_name="measure").assign(ingestion=self.tonight)
        parts = [totals, fields] if len(fields) else [totals]
        columns = {"ingestion": "int64", "measure": "str", "field": "str", "value": "float64"}
        return pd.concat([part[list(columns)] for part in parts], ignore_index=True).astype(columns)

    @property
    def figures(self) -> dict[str, float]:
        """Tonight's by name, ``<measure>`` or ``<measure>_<field>``; none where there are the base files alone."""
        if self.tonight == BASE:
            return {}
        table = self.table
        tonight = table[(table["ingestion"] == self.tonight) & (table["measure"] != "by_chance")].dropna(subset="value")
        rows = tonight[["measure", "field", "value"]].itertuples(index=False)
        return {measure if field == _ALL else f"{measure}_{field}": value for measure, field, value in rows}


def compare_nights(interactions: pd.DataFrame, batches: Mapping[str, Any]) -> Comparison:
    """Compare the last ingestion's ratings with those of the one before, or of the base files if it is the first.

    The bins of a field are made from the rows before both nights (from the base files where these are one of the two),
    so that a value is unknown to both or to neither. Fields of the user count each user of a night once, other fields
    count rows. Since the rows of one user are not independent, chance is reckoned by the numbers of users throughout.

    Args:
        interactions: batch (int), label and the fields of ``schema.FIELDS``, one row a rating.
        batches: ``{"files": [{"sequence": int, "ingestion": int, ...}]}``; those with ``withdrawn`` do not count.

    Raises:
        DataError: a row's batch is not among the files.
    """
    counting = [file for file in batches["files"] if not file.get("withdrawn")]
    intake_of = {BASE: BASE, **{file["sequence"]: file["ingestion"] for file in counting}}
    ingestion = interactions["ingestion_batch"].map(intake_of)
    if ingestion.isna().any():
        unknown = interactions.loc[ingestion.isna(), "ingestion_batch"].iloc[0]
        raise DataError(
            f"interactions, batch: found {unknown}, which batches.json does not hold (it ends at "
            f"{max(intake_of)}); materialize batches and what comes after it again"
        )
    totals = _totals(interactions, ingestion.astype(np.int64), sorted(set(intake_of.values())))
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
    return Comparison(tonight, before, totals, _fields(nights) if comparable else _no_fields())


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


def _fields(nights: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    users = {name: rows.drop_duplicates("user_id") for name, rows in nights.items()}
    found = []
    for field in schema.FIELDS:
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
