"""Test that a year is resumed at a failed night, once its fault is fixed."""

import json
from pathlib import Path

import pytest

from tests.soak.kept import Kept


@pytest.fixture
def year(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    """A year with two failed nights, the last of which was yesterday."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    for name, nights in (("failed/3", 2), ("failed/5", 4), ("before", 4)):
        (tmp_path / name).mkdir(parents=True)
        report = {"nights": nights, "violations": [], "repeated": []}
        (tmp_path / name / "state.json").write_text(json.dumps({"year": {"seed": 1}, "soak": {"report": report}}))
        (tmp_path / name / "disturbed").write_text(str(nights))
    return Kept(tmp_path, {"seed": 1}, lambda text: None)


def test_later_nights_are_given_up(year: Kept, tmp_path: Path) -> None:
    year.go_back(3)
    state = json.loads((tmp_path / "before" / "state.json").read_text())
    assert state["soak"]["report"] == {"nights": 2, "violations": [], "repeated": [3]}
    assert (tmp_path / "before" / "disturbed").read_text() == "2"
    assert {path.name for path in (tmp_path / "failed").iterdir()} == {"3"}
    assert {path.name for path in tmp_path.iterdir()} == {"before", "failed"}


def test_a_night_that_is_not_kept_changes_nothing(year: Kept, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="FROM=4 is not kept in"):
        year.go_back(4)
    with pytest.raises(SystemExit, match="for this SEED"):
        Kept(tmp_path, {"seed": 2}, lambda text: None).go_back(3)
    assert (tmp_path / "before" / "disturbed").read_text() == "4"
    assert {path.name for path in (tmp_path / "failed").iterdir()} == {"3", "5"}
