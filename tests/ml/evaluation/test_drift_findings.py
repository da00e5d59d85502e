from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from ml import schema
from ml.evaluation.drift import Comparison
from ml.evaluation.drift_findings import (
    DriftThresholds,
    counts,
    drift_findings,
    population_stability,
    positive_share,
    unknown_codes,
    with_limits,
)

CALENDAR = {"rating_year": None, "rating_month": None, "rating_decade": None}
SETTINGS: dict[str, Any] = {
    "minimum_rows": 100,
    "count_ratio": {"low": 0.5, "high": 2},
    "positive_share": 0.1,
    "stability_index": {"default": 0.25, "overrides": CALENDAR},
    "unknown_share": {"default": 0.05, "overrides": {"user_id": 0.5, **CALENDAR}},
}
THRESHOLDS = DriftThresholds(**SETTINGS)


def night(ratings: int = 1000, users: int = 100, movies: int = 200, share: float = 0.6) -> tuple[int, int, int, float]:
    return ratings, users, movies, share


def comparison(
    *nights: tuple[int, int, int, float], by_chance: float = 0.02, unknown: bool = False, **values: float
) -> Comparison:
    """Return a comparison of the base and these nights; ``values``: stability index or unknown share by feature."""
    totals = pd.DataFrame([night(10**6), *nights], columns=["ratings", "users", "movies", "positive_share"])
    fields = pd.DataFrame({"field": schema.FIELD_NAMES})
    given = fields["field"].map(values).fillna(0.01)
    zero = pd.Series(0.0, index=fields.index)
    fields = fields.assign(stability_index=zero if unknown else given, by_chance=by_chance)
    fields = fields.assign(unknown_share=given if unknown else zero)
    tonight = len(nights)
    return Comparison(tonight, max(tonight - 1, 0), totals.rename_axis("ingestion"), fields)


@pytest.mark.parametrize(
    ("tonight", "passed"),
    [
        (night(), True),
        (night(ratings=500), True),
        (night(ratings=499), False),
        (night(ratings=2000), True),
        (night(ratings=2001), False),
        (night(users=49), False),
        (night(movies=401), False),
        (night(0, 0, 0, np.nan), False),
    ],
)
def test_counts_may_differ_by_a_factor(tonight: tuple[int, int, int, float], passed: bool) -> None:
    finding = counts(comparison(night(), tonight), THRESHOLDS)
    assert (finding.name, finding.passed) == ("counts", passed)
    assert finding.facts["ratings_ratio"] == pytest.approx(tonight[0] / 1000)


def test_counts_in_a_sentence() -> None:
    finding = counts(comparison(night(), night(4000, 120, 210)), THRESHOLDS)
    for figures in ("4,000 ratings by 120 users of 210 movies", "ratings 4, users 1.2, movies 1.05", "0.5 to 2"):
        assert figures in finding.facts["summary"]


def test_counts_are_not_compared_with_the_base_files() -> None:
    finding = counts(comparison(night()), THRESHOLDS)
    assert finding.passed
    assert finding.facts["summary"].endswith("there is no earlier ingestion to compare with.")


def test_two_small_nights_are_not_judged_but_a_sudden_small_one_is() -> None:
    quiet = counts(comparison(night(99), night(3)), THRESHOLDS)
    assert quiet.passed
    assert "3 ratings of ingestion 2 and 99 of ingestion 1; at least 100 are needed" in quiet.facts["summary"]
    assert not counts(comparison(night(100), night(3)), THRESHOLDS).passed


@pytest.mark.parametrize(("share", "passed"), [(0.69, True), (0.71, False), (0.51, True), (0.49, False)])
def test_positive_share_may_change_a_little(share: float, passed: bool) -> None:
    finding = positive_share(comparison(night(share=0.6), night(share=share)), THRESHOLDS)
    assert finding.passed == passed
    assert finding.facts["change"] == pytest.approx(share - 0.6)
    assert f"{share:.3f} in ingestion 2 and 0.600 in ingestion 1" in finding.facts["summary"]


@pytest.mark.parametrize(
    ("values", "by_chance", "passed"),
    [
        ({"genre1": 0.25}, 0.02, True),
        ({"genre1": 0.26}, 0.02, False),
        ({"genre1": 0.26}, 0.3, True),  # within chance for so few rows
        ({"rating_month": 9.0, "rating_year": 9.0, "rating_decade": 9.0}, 0.02, True),
    ],
)
def test_stability_of_every_feature_that_has_a_limit(values: dict[str, float], by_chance: float, passed: bool) -> None:
    finding = population_stability(comparison(night(), night(), by_chance=by_chance, **values), THRESHOLDS)
    assert finding.passed == passed
    assert set(finding.facts) - {"summary"} == set(schema.FIELD_NAMES) - set(CALENDAR)


def test_shifted_features_are_named_with_their_figures() -> None:
    finding = population_stability(comparison(night(), night(), genre1=0.4, zip=1.5), THRESHOLDS)
    assert "zip 1.5 (limit 0.25), genre1 0.4 (limit 0.25)." in finding.facts["summary"]
    finding = population_stability(comparison(night(), zip=0.2), THRESHOLDS)
    assert "at most 0.2 (zip) in 11 features" in finding.facts["summary"]


@pytest.mark.parametrize(
    ("values", "passed"),
    [
        ({"movie_id": 0.05, "user_id": 0.5}, True),
        ({"movie_id": 0.06}, False),
        ({"user_id": 0.51}, False),
        ({"rating_year": 1.0}, True),
    ],
)
def test_unknown_shares_have_limits_by_feature(values: dict[str, float], passed: bool) -> None:
    finding = unknown_codes(comparison(night(), night(), unknown=True, **values), THRESHOLDS)
    assert finding.passed == passed
    assert next(iter(values)) in finding.facts["summary"] or passed


@pytest.mark.parametrize("nights", [(night(99), night()), (night(), night(99))])
def test_too_few_rows_are_not_judged(nights: tuple[tuple[int, int, int, float], ...]) -> None:
    far = comparison(*nights, genre1=9.0)
    for judge in (positive_share, population_stability):
        finding = judge(far, THRESHOLDS)
        assert finding.passed
        assert finding.facts["summary"].startswith("Not judged: ")
        assert "at least 100 are needed" in finding.facts["summary"]
    # Whether tonight's values are known does not depend on the previous night.
    unknown = unknown_codes(comparison(*nights, unknown=True, genre1=0.9), THRESHOLDS)
    assert unknown.passed == (nights[1] == night(99))


def test_without_batches_all_pass_and_say_so() -> None:
    findings = drift_findings(comparison(), THRESHOLDS)
    assert [finding.name for finding in findings] == [
        "counts", "positive_share", "population_stability", "unknown_codes"
    ]  # fmt: skip
    for finding in findings:
        assert finding.passed
        assert finding.facts["summary"].startswith("Nothing has been ingested yet")


def test_no_limits_at_all() -> None:
    none = {"default": 0, "overrides": dict.fromkeys(schema.FIELD_NAMES)}
    finding = unknown_codes(comparison(night(), night()), DriftThresholds(**{**SETTINGS, "unknown_share": none}))
    assert finding.passed
    assert finding.facts["summary"].endswith("no feature has a limit.")


def test_limits_beside_the_fields() -> None:
    for by_chance, expected in ((0.02, 0.25), (0.3, 0.3)):
        fields = comparison(night(), by_chance=by_chance).fields
        limits = with_limits(fields, THRESHOLDS).set_index("field")["limit"]
        assert limits["genre1"] == expected
        assert limits[list(CALENDAR)].isna().all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"minimum_rows": 0},
        {"positive_share": 0},
        {"count_ratio": {"low": 1.5, "high": 2}},
        {"count_ratio": {"low": 0.5, "high": 0.9}},
        {"unknown_share": {"default": -0.1}},
        {"unknown_share": {"default": 0.1, "overrides": {"colour": -0.2}}},
        {"stability_index": {"default": 0.1, "other": 0.2}},
        {"limit": 1},
    ],
)
def test_bad_thresholds_are_refused(wrong: dict[str, Any]) -> None:
    DriftThresholds(**SETTINGS)
    with pytest.raises(ValidationError):
        DriftThresholds(**{**SETTINGS, **wrong})
