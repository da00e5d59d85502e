import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from ml.checks import Finding
from orchestration.assets.common import TRANSIENT
from orchestration.config.data_sets import DATA_SETS, add_partition, register
from orchestration.reporting.check_results import blocking, checks_last, require, together
from orchestration.resources.raw_data import RawData
from orchestration.resources.storage import TableIOManager
from tests.orchestration.conftest import DATASET, failure_text, run_job

RAW = ("raw_users", "raw_movies", "raw_ratings")
Outcome = tuple[str, str, bool]


@pytest.fixture
def films(small_raw_directory: Path, tmp_path: Path) -> Path:
    """A directory of raw files that a test may spoil."""
    return Path(shutil.copytree(small_raw_directory, tmp_path / "films"))


def replace_line(path: Path, number: int, change: Callable[[str], str]) -> None:
    lines = path.read_text("latin-1").splitlines(keepends=True)
    lines[number - 1] = change(lines[number - 1])
    path.write_text("".join(lines), "latin-1")


def materialize_raw(
    instance: dg.DagsterInstance, source: Path, raise_on_error: bool = True
) -> dg.ExecuteInProcessResult:
    return run_job(instance, {}, *RAW, raise_on_error=raise_on_error, data_set=register(str(source)))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def attempts(result: dg.ExecuteInProcessResult) -> int:
    return sum(event.event_type == dg.DagsterEventType.STEP_START for event in result.all_events) + sum(
        event.event_type == dg.DagsterEventType.STEP_RESTARTED for event in result.all_events
    )


def outcomes(result: dg.ExecuteInProcessResult) -> set[Outcome]:
    checks = result.get_asset_check_evaluations()
    return {(check.asset_key.to_user_string(), check.check_name, check.passed) for check in checks}


def test_findings_become_check_results() -> None:
    facts = {"rows": np.int64(3), "share": np.float32(0.5)}
    (result,) = require("numbers", Finding("row_count", np.bool_(True), facts))  # type: ignore[arg-type]
    assert result.passed is True
    assert result.asset_key == dg.AssetKey("numbers")
    assert result.check_name == "row_count"
    assert {name: value.value for name, value in result.metadata.items()} == {"rows": 3, "share": 0.5}


def test_findings_on_several_things_become_one() -> None:
    rows = {"2001-01": 3, "2001-02": 1, "2001-03": 0}
    findings = {month: Finding("enough", count > 1, {"rows": np.int64(count)}) for month, count in rows.items()}
    facts = {"checked": "2001-01, 2001-02, 2001-03", "2001-02": {"rows": 1}, "2001-03": {"rows": 0}}
    assert together("enough_a_month", findings) == Finding("enough_a_month", False, facts)
    whole = together("enough_a_month", {"2001-01": findings["2001-01"]})
    assert whole == Finding("enough_a_month", True, {"checked": "2001-01"})
    (result,) = require("numbers", whole)
    assert result.passed


def test_results_come_after_what_they_are_about_or_before_the_failure() -> None:
    one, two = (dg.AssetCheckResult(passed=True, asset_key="numbers", check_name=name) for name in ("one", "two"))
    written = dg.MaterializeResult(asset_key="numbers")

    @checks_last
    def numbers(fails: bool) -> Iterator[Any]:
        yield one
        if fails:
            raise ValueError("after the first")
        yield written
        yield two

    assert list(numbers(fails=False)) == [written, one, two]
    failing = numbers(fails=True)
    assert next(failing) == one
    with pytest.raises(ValueError, match="after the first"):
        next(failing)


def test_all_findings_are_reported_before_the_failure() -> None:
    findings = [Finding("one", False, {"rows": 1}), Finding("two", True), Finding("three", False, {"rows": 3})]
    reported: list[dg.AssetCheckResult] = []
    with pytest.raises(dg.Failure) as caught:
        reported.extend(require("numbers", *findings))
    assert [(result.check_name, result.passed) for result in reported] == [
        ("one", False),
        ("two", True),
        ("three", False),
    ]
    assert not caught.value.allow_retries
    assert caught.value.description is not None
    assert "numbers failed one: {'rows': 1}; three: {'rows': 3}" in caught.value.description
    assert "two" not in caught.value.description


def test_failed_check_stops_all_and_keeps_the_last_table(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    values: list[Any] = [1, 2]

    @dg.asset(partitions_def=DATA_SETS, check_specs=blocking("numbers", "complete"), retry_policy=TRANSIENT)
    def numbers() -> Iterator[Any]:
        table = pd.DataFrame({"number": values})
        yield from require("numbers", Finding("complete", bool((table["number"] > 0).all()), {"rows": len(table)}))
        yield dg.MaterializeResult(value=table)

    @dg.asset(partitions_def=DATA_SETS)
    def doubled(numbers: pd.DataFrame) -> pd.DataFrame:
        return numbers * 2

    manager = TableIOManager(raw_data=RawData())
    add_partition(instance, DATASET)

    def materialize() -> dg.ExecuteInProcessResult:
        resources = {"io_manager": manager}
        return dg.materialize(
            [numbers, doubled],
            instance=instance,
            resources=resources,
            partition_key=DATASET,
            raise_on_error=False,
        )

    good = materialize()
    assert good.success
    assert outcomes(good) == {("numbers", "complete", True)}
    before = contents(tmp_path / "home" / "tables" / DATASET)
    assert set(before) == {"numbers.parquet", "doubled.parquet"}

    values.append(-3)
    bad = materialize()
    assert not bad.success
    assert outcomes(bad) == {("numbers", "complete", False)}
    assert "complete: {'rows': 3}" in failure_text(bad, "numbers")
    assert attempts(bad) == 1  # no second attempt, and no downstream asset
    assert contents(tmp_path / "home" / "tables" / DATASET) == before


def test_raw_file_that_turns_bad_keeps_the_last_tables(
    films: Path, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    assert materialize_raw(instance, films).success
    tables = tmp_path / "home" / "tables" / "films"
    before = contents(tables)
    assert set(before) == {f"{name}.parquet" for name in RAW}

    replace_line(films / "ratings.dat", 1234, lambda line: "::".join([*line.split("::")[:2], "9", "978300760\n"]))
    bad = materialize_raw(instance, films, raise_on_error=False)
    assert not bad.success
    assert f"{films}/ratings.dat, line 1234: found '9', expected a rating" in failure_text(bad, "raw_movielens")
    assert attempts(bad) == 1
    assert contents(tables) == before


def test_directory_called_like_the_official_data_must_hold_it(
    films: Path, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    bad = materialize_raw(instance, films.rename(tmp_path / "ml-1m"), raise_on_error=False)
    assert not bad.success
    assert ("raw_users", "row_count", False) in outcomes(bad)
    text = failure_text(bad, "raw_movielens")
    assert "300" in text
    assert "6040" in text
    assert not (tmp_path / "home" / "tables").exists()


def test_missing_directory_fails_with_what_to_do(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    bad = materialize_raw(instance, tmp_path / "nowhere", raise_on_error=False)
    assert not bad.success
    assert f"{tmp_path}/nowhere: no such directory; set MOVIELENS_DIR" in failure_text(bad, "raw_movielens")
