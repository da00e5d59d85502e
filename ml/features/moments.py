"""Features of a rating's moment: hour, weekday, days since the user's first rating, and position in the session.

No data set has them by itself: a recipe asks for them by ``moments``, and only its own rows and feature map get them.
Their values are fixed, so a value's index is the same in every feature map:

- ``rating_hour``: 0 to 23, in UTC.
- ``rating_weekday``: 0 (Monday) to 6, in UTC.
- ``days_since_first``: full periods of 24 hours since the user's first rating.
- ``session_position``: how many ratings of the same session came earlier. A session ends when ``SESSION_GAP`` seconds
  pass without a rating. Ratings of the same second are simultaneous, so none of them is earlier than another.

Days and position are ranges that double in length: 0, 1, 2 to 3, 4 to 7, ...; a range is named by its least number, and
the last one has no end. A row's values depend only on the times of its user's rows at or before its own time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from ml import schema
from ml.features.feature_map import FeatureMap, FieldVocabulary

SESSION_GAP = 60 * 60
_HOUR, DAY = 60 * 60, 24 * 60 * 60
_FIRST_WEEKDAY = 3  # 1970-01-01 was a Thursday
VALUES: Mapping[str, tuple[int, ...]] = {
    schema.RATING_HOUR: tuple(range(24)),
    schema.RATING_WEEKDAY: tuple(range(7)),
    schema.DAYS_SINCE_FIRST: (0, *(2**power for power in range(14))),  # the last range begins after 22 years
    schema.SESSION_POSITION: (0, *(2**power for power in range(11))),
}


def moment_values(interactions: pd.DataFrame) -> pd.DataFrame:
    """Return all features of the moment of each row, int16, with the index and order of the rows.

    Args:
        interactions: user_id, timestamp (Unix seconds); all rows of the users, in any order.
    """
    users = pd.factorize(interactions["user_id"])[0]
    times = interactions["timestamp"].to_numpy(np.int64)
    order = np.lexsort((times, users))
    user, time = users[order], times[order]
    is_first = np.diff(user, prepend=-1) != 0
    gap = np.diff(time, prepend=0)
    first_time = time[_latest(is_first)]
    session = _latest(is_first | (gap > SESSION_GAP))
    simultaneous = _latest(is_first | (gap > 0))
    numbers = {
        schema.RATING_HOUR: time // _HOUR % 24,
        schema.RATING_WEEKDAY: (time // DAY + _FIRST_WEEKDAY) % 7,
        schema.DAYS_SINCE_FIRST: (time - first_time) // DAY,
        schema.SESSION_POSITION: simultaneous - session,
    }
    values = {}
    for name, sorted_numbers in numbers.items():
        of_rows = np.empty(len(order), np.int64)
        of_rows[order] = sorted_numbers
        values[name] = np.array(VALUES[name], np.int16)[range_of(of_rows, VALUES[name])]
    return pd.DataFrame(values, index=interactions.index)


def _latest(starts: np.ndarray) -> np.ndarray:
    """Return for each position the latest one, up to itself, at which something starts, int64 [n]."""
    return np.maximum.accumulate(np.where(starts, np.arange(len(starts)), 0))


def range_of(numbers: np.ndarray, leasts: Sequence[int]) -> np.ndarray:
    """Return the index of each number's range, int64; numbers below all ranges are in the first.

    Args:
        numbers: whole numbers.
        leasts: least number of each range, ascending.
    """
    return np.maximum(np.searchsorted(np.asarray(leasts), numbers, side="right") - 1, 0)


def with_moments(rows: pd.DataFrame, interactions: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return encoded rows with further features, as int32 columns of indices that follow the other features.

    Args:
        rows: encoded, with the column ``row``, the position in ``interactions``.
        interactions: user_id, timestamp of all rows, training and test.
        names: of the features.
    """
    values = moment_values(interactions[["user_id", "timestamp"]]).iloc[rows["row"].to_numpy()]
    widened, place = rows.copy(), list(rows.columns).index(schema.LABEL)
    for number, name in enumerate(names):
        indices = range_of(values[name].to_numpy(), VALUES[name]).astype(np.int32)
        widened.insert(place + number, name, indices)
    return widened


def map_with_moments(feature_map: FeatureMap, rows: pd.DataFrame, names: Sequence[str]) -> FeatureMap:
    """Return the feature map with further features, and what is assumed of them where the moment is not known.

    That is when somebody asks for recommendations: at the most common hour and weekday (of several, the first), at the
    start of a session, and, for a user without training rows, on the first day.

    Args:
        feature_map: the data set's.
        rows: training rows of ``with_moments``.
        names: of the features.
    """
    described = {field.name: field for field in schema.MOMENTS}
    fields = []
    for name in names:
        values, assumed = VALUES[name], 0
        if name in (schema.RATING_HOUR, schema.RATING_WEEKDAY):
            assumed = values[np.bincount(rows[name], minlength=len(values)).argmax()]
        fields.append(FieldVocabulary(name, described[name].side, described[name].kind, values=values, assumed=assumed))
    return replace(feature_map, fields=(*feature_map.fields, *fields))


def with_first_times(users: pd.DataFrame, rows: pd.DataFrame, feature_map: FeatureMap) -> pd.DataFrame:
    """Return users with ``first_timestamp`` (int64): the time of the first training row, or, without one, of the last.

    Args:
        users: the users table.
        rows: encoded training rows.
        feature_map: that encoded them.
    """
    first = rows.groupby("user_id")["timestamp"].min()
    first.index = pd.Index(feature_map["user_id"].values)[first.index]
    times = users["user_id"].map(first).fillna(rows["timestamp"].max()).astype(np.int64)
    return users.assign(**{schema.FIRST_TIMESTAMP: times})


def complete_rows(interactions: pd.DataFrame, feature_map: FeatureMap) -> pd.DataFrame:
    """Return raw interactions with the moment's features that a model's feature map has; see ``moment_values``."""
    names = [name for name in feature_map.names if name in VALUES]
    return interactions.join(moment_values(interactions)[names]) if names else interactions


def middle_of_month(years: pd.Series | np.ndarray, months: pd.Series | np.ndarray) -> np.ndarray:
    """Return the time that stands for a month: its 15th day, 0:00 UTC, as Unix seconds, int64 [n].

    Args:
        years: [n].
        months: 1-12 [n].
    """
    days = pd.DataFrame({"year": years, "month": months, "day": 15})
    return pd.to_datetime(days).to_numpy("datetime64[s]").astype(np.int64)
