"""The Grafana dashboard: its panels are told apart, lie beside each other, and ask for what is exported."""

import json
import re
from itertools import combinations
from typing import Any

import pytest

from orchestration.config.settings import PROJECT_ROOT
from orchestration.exporter.catalog import CATALOG, EVALUATED, PREFIX
from tests.deploy.exported import exported, problems, used

DASHBOARD: dict[str, Any] = json.loads((PROJECT_ROOT / "deploy/grafana/recommender.json").read_text("utf-8"))
ROWS = [panel for panel in DASHBOARD["panels"] if panel["type"] == "row"]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
_WIDTH = 24
_LEGEND = re.compile(r"{{(\w+)}}")


def test_it_can_be_provisioned() -> None:
    assert DASHBOARD["uid"] == "movie-recommender"
    assert "id" not in DASHBOARD  # a number of one Grafana
    assert VARIABLES["datasource"]["type"] == "datasource"
    assert VARIABLES["datasource"]["query"] == "prometheus"
    assert [row["title"] for row in ROWS] == ["Pipeline", "REST service"]


def test_panels_have_unique_ids_and_titles() -> None:
    for key in ("id", "title"):
        found = [panel[key] for panel in DASHBOARD["panels"]]
        assert len(set(found)) == len(found)


def test_no_panel_lies_on_another_one() -> None:
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= _WIDTH
    for one, other in combinations(DASHBOARD["panels"], 2):
        a, b = one["gridPos"], other["gridPos"]
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        below = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or below, (one["title"], other["title"])


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_is_complete(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    references = [target["refId"] for target in panel["targets"]]
    assert len(set(references)) == len(references) > 0


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_asks_for_what_is_exported(panel: dict[str, Any]) -> None:
    known = exported()
    for target in panel["targets"]:
        assert problems(target["expr"]) == []
        assert target["datasource"] == panel["datasource"]
        labels = {label for name, _ in used(target["expr"]) for label in known[name]}
        assert set(_LEGEND.findall(target["legendFormat"])) <= labels
        assert set(re.findall(r"\$(\w+)", target["expr"])) <= {*VARIABLES, "__rate_interval"}


@pytest.mark.parametrize("name", ["dataset", "instance"])
def test_variables_offer_labels_that_are_exported(name: str) -> None:
    metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", VARIABLES[name]["query"]["query"]).groups()  # type: ignore[union-attr]
    assert label == name
    assert label in exported()[metric]


def test_the_pipelines_metrics_are_shown() -> None:
    """All of them but those that other panels imply."""
    shown = {name for panel in PANELS for target in panel["targets"] for name, _ in used(target["expr"])}
    left = {name for name in CATALOG if PREFIX + name not in shown}
    implied = {"scheduled", "last_run_timestamp_seconds", "challenger_version", "ingestion_batches"}
    evaluated = {name for name in CATALOG if name.startswith(EVALUATED)} - {f"{EVALUATED}ndcg_at_10"}
    assert left == implied | evaluated
