from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml import schema
from ml.features.feature_map import FeatureMap
from ml.features.moments import (
    SESSION_GAP,
    VALUES,
    complete_rows,
    map_with_moments,
    middle_of_month,
    moment_values,
    range_of,
    with_first_times,
    with_moments,
)
from ml.features.splits import split_interactions
from tests.feature_maps import encode_interactions

MONDAY = int(datetime(1970, 1, 5, 10, tzinfo=UTC).timestamp())
HOUR, DAY = 3600, 86400


def rows_of(*rows: tuple[int | str, int]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["user_id", "timestamp"])


def test_values_by_hand() -> None:
    rows = rows_of(
        (7, MONDAY + DAY),  # a second after the row before it
        (7, MONDAY),
        (8, -1),  # the user's only rating: on a Wednesday
        (7, MONDAY),  # simultaneous
        (7, MONDAY + HOUR),  # a gap of an hour does not end a session
        (7, MONDAY + 2 * HOUR + 1),  # a second more does
        (7, MONDAY + DAY - 1),
        (7, MONDAY + 10 * DAY),
    )
    found = moment_values(rows)
    assert found.columns.tolist() == list(schema.MOMENT_NAMES)
    assert found["rating_hour"].tolist() == [10, 10, 23, 10, 11, 12, 9, 10]
    assert found["rating_weekday"].tolist() == [1, 0, 2, 0, 0, 0, 1, 3]
    assert found["days_since_first"].tolist() == [1, 0, 0, 0, 0, 0, 0, 8]
    assert found["session_position"].tolist() == [1, 0, 0, 0, 2, 0, 0, 0]
    assert SESSION_GAP == HOUR


def test_ranges_by_hand() -> None:
    assert VALUES["session_position"] == (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
    assert VALUES["days_since_first"] == (*VALUES["session_position"], 2048, 4096, 8192)
    leasts = VALUES["session_position"]
    assert range_of(np.array([-5, 0, 1, 2, 3, 4, 7, 8, 1023, 1024, 10**6]), leasts).tolist() == [
        0, 0, 1, 2, 2, 3, 3, 4, 10, 11, 11
    ]  # fmt: skip


def test_a_long_session_by_hand() -> None:
    found = moment_values(rows_of(*(("u", MONDAY + second) for second in range(9))))
    assert found["session_position"].tolist() == [0, 1, 2, 2, 4, 4, 4, 4, 8]


def test_nothing_has_no_values() -> None:
    assert moment_values(rows_of()).shape == (0, 4)


def by_hand(rows: pd.DataFrame, row: int) -> tuple[int, ...]:
    """Values of one row, from its user's rows at or before its time, the plain way."""
    user, now = rows.iloc[row]
    times = sorted(rows.loc[(rows["user_id"] == user) & (rows["timestamp"] <= now), "timestamp"])
    when, session = datetime.fromtimestamp(now, UTC), [times[0]]
    for time in times[1:]:
        session = [*session, time] if time - session[-1] <= SESSION_GAP else [time]
    numbers = {"days_since_first": (now - times[0]) // DAY, "session_position": sum(time < now for time in session)}
    ranges = [max(least for least in VALUES[name] if least <= number) for name, number in numbers.items()]
    return (when.hour, when.weekday(), *ranges)


# Few distinct times, so that many are equal, and gaps around the length that ends a session.
TIMES = st.builds(lambda hours, seconds: hours * HOUR + seconds, st.integers(0, 60), st.integers(-1, 1))
ROWS = st.lists(st.tuples(st.integers(1, 3), TIMES.map(lambda time: MONDAY + time)), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_a_row_s_values_come_from_its_user_s_rows_up_to_its_time(rows: list[tuple[int, int]]) -> None:
    table = rows_of(*rows)
    found = moment_values(table)
    assert [tuple(values) for values in found.to_numpy().tolist()] == [by_hand(table, row) for row in range(len(table))]
    shuffled = table.sample(frac=1, random_state=len(rows))
    pd.testing.assert_frame_equal(moment_values(shuffled).loc[table.index], found)
    for now in sorted(set(table["timestamp"])):  # no later row matters
        earlier = table[table["timestamp"] <= now]
        pd.testing.assert_frame_equal(moment_values(earlier), found.loc[earlier.index])


@pytest.fixture(scope="module")
def encoded(small_interactions: pd.DataFrame, small_feature_map: FeatureMap) -> pd.DataFrame:
    return encode_interactions(small_interactions, small_feature_map)


@pytest.mark.parametrize("split", ["temporal", "random", "paper"])
def test_rows_get_further_features_before_the_label(encoded: pd.DataFrame, split: str) -> None:
    names = ("session_position", "rating_hour")
    values = moment_values(encoded)
    for rows in split_interactions(encoded, split):  # type: ignore[arg-type]
        found = with_moments(rows, encoded, names)
        assert found.columns[: found.columns.get_loc("label")].tolist() == [*schema.FIELD_NAMES, *names]
        pd.testing.assert_frame_equal(found.drop(columns=list(names)), rows)
        for name in names:
            assert found[name].dtype == np.int32
            assert np.array(VALUES[name])[found[name]].tolist() == values[name].iloc[rows["row"]].tolist()


def test_on_the_temporal_split_no_test_row_tells_the_training_rows_anything(encoded: pd.DataFrame) -> None:
    train, test = split_interactions(encoded, "temporal")
    alone = encoded.iloc[sorted(train["row"])].reset_index(drop=True)
    places = pd.Series(np.arange(len(alone)), index=sorted(train["row"]))
    found = with_moments(train, encoded, schema.MOMENT_NAMES)
    of_train = with_moments(train.assign(row=train["row"].map(places)), alone, schema.MOMENT_NAMES)
    pd.testing.assert_frame_equal(of_train.drop(columns="row"), found.drop(columns="row"))
    assert (test["timestamp"].min() >= train["timestamp"].max()).all()


def test_the_map_says_what_is_assumed(encoded: pd.DataFrame, small_feature_map: FeatureMap) -> None:
    train = split_interactions(encoded)[0]
    rows = with_moments(train, encoded, schema.MOMENT_NAMES)
    rows["rating_hour"], rows["rating_weekday"] = np.arange(len(rows)) % 24, np.arange(len(rows)) % 3 * 3
    rows.loc[:50, "rating_hour"], rows.loc[:50, "rating_weekday"] = 17, 6
    found = map_with_moments(small_feature_map, rows, schema.MOMENT_NAMES)
    assert found.fields[:-4] == small_feature_map.fields
    assert found.names[-4:] == schema.MOMENT_NAMES
    assert [field.assumed for field in found.fields] == [None] * 14 + [17, 6, 0, 0]
    assert [field.side for field in found.fields[-4:]] == ["context"] * 4
    assert found.field_dims[-4:] == (24, 7, 15, 12)
    assert FeatureMap.from_json(found.to_json(), "it") == found
    assert map_with_moments(small_feature_map, rows, ("days_since_first",)).names[14:] == ("days_since_first",)


def test_of_equally_common_values_the_first_is_assumed(encoded: pd.DataFrame, small_feature_map: FeatureMap) -> None:
    rows = encoded.iloc[:4].assign(rating_hour=[5, 3, 5, 3])
    assert map_with_moments(small_feature_map, rows, ("rating_hour",))["rating_hour"].assumed == 3


def test_first_times_are_those_of_the_training_rows(
    encoded: pd.DataFrame, small_feature_map: FeatureMap, small_users: pd.DataFrame
) -> None:
    some = small_users.iloc[[5, 3, 4]]
    indices = small_feature_map["user_id"].encode(some["user_id"])
    rows = pd.DataFrame({"user_id": indices[[0, 1, 1]], "timestamp": [500, 900, 300]})
    found = with_first_times(some, rows, small_feature_map)
    assert found["first_timestamp"].tolist() == [500, 300, 900]  # the last has no row, and is as new as can be
    assert found["first_timestamp"].dtype == np.int64
    pd.testing.assert_frame_equal(found.drop(columns="first_timestamp"), some)


def test_raw_rows_get_the_features_of_a_model(
    encoded: pd.DataFrame, small_interactions: pd.DataFrame, small_feature_map: FeatureMap
) -> None:
    names = ("days_since_first", "rating_weekday")
    rows = with_moments(encoded.assign(row=np.arange(len(encoded))), encoded, names)
    own = map_with_moments(small_feature_map, rows, names)
    complete = complete_rows(small_interactions, own)
    pd.testing.assert_frame_equal(own.transform(complete), rows[[*own.names]])
    assert complete_rows(small_interactions, small_feature_map) is small_interactions


def test_the_middle_of_a_month() -> None:
    found = middle_of_month(pd.Series([1970, 2001], index=[4, 4]), pd.Series([1, 12], index=[4, 4]))
    assert found.tolist() == [14 * DAY, int(datetime(2001, 12, 15, tzinfo=UTC).timestamp())]
