"""The UIs of Dagster and MLflow as a data scientist uses them, in Chromium (``make test-browser``)."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser import keep
from tests.orchestration.browser.conftest import Uis
from tests.orchestration.recipes import MODELS
from tests.small_home import DATASET

pytestmark = pytest.mark.browser

GROUPS = ("raw", "tables", "features", "models", "catalogue", "evaluation", "recommendations", "operations")
RUN_MS = 180_000  # for a run of one step, its process included
expect.set_options(timeout=60_000)


def kept(page: Page, folder: Path, name: str) -> None:
    """A screenshot for the pages of docs/."""
    page.wait_for_timeout(1500)  # charts move into their places
    keep(page, folder, name)


def only_the_page(page: Page) -> None:
    """MLflow's assistant, which has nothing to do here, leaves the page its width."""
    page.get_by_role("button", name="Close", exact=True).click()


def test_materialize_by_clicking(page: Page, uis: Uis) -> None:
    page.goto(f"{uis.dagster}/assets/data_report")
    page.get_by_text("Latest materialization").wait_for()
    page.locator("button", has_text="Materialize").first.click()
    page.get_by_text("Select a partition or create one").click()
    page.get_by_role("menuitem").filter(has_text=DATASET).click()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Launch 1 run").click()
    page.get_by_role("link", name="View", exact=True).click()
    expect(page).to_have_url(re.compile("/runs/"))
    expect(page.get_by_text("Success", exact=True).first).to_be_visible(timeout=RUN_MS)
    expect(page.get_by_text("Failure", exact=True)).to_have_count(0)


def test_graph_reads_from_left_to_right(page: Page, uis: Uis, screenshots: Path) -> None:
    page.goto(uis.dagster)
    page.get_by_role("link", name="Lineage").click()
    groups = [page.get_by_text(name, exact=True).last for name in GROUPS]
    for group in groups:
        expect(group).to_be_visible()
    kept(page, screenshots, "asset-graph")
    left = [box["x"] for group in groups if (box := group.bounding_box())]
    assert left == sorted(set(left))
    assert len(left) == len(GROUPS)


def test_page_of_a_model(page: Page, uis: Uis, screenshots: Path) -> None:
    page.goto(f"{uis.dagster}/assets/autoint")
    expect(page.get_by_text("self-attention over feature embeddings")).to_be_visible()
    curve = page.get_by_role("img", name="loss by epoch")
    expect(curve).to_be_visible()
    assert curve.evaluate("image => image.naturalWidth") > 200  # the browser can draw it
    kept(page, screenshots, "asset-autoint")
    link = page.locator("a[href*='/models/'][href*='/versions/1?']").first
    page.goto(str(link.get_attribute("href")))
    expect(page.get_by_role("heading", name="Version 1")).to_be_visible()


def test_tables_of_the_comparison_are_shown_in_place(page: Page, uis: Uis, screenshots: Path) -> None:
    page.goto(f"{uis.dagster}/assets/model_comparison")
    for name in ("on_own_test_rows", "over_the_catalogue"):
        row = page.locator("tr", has=page.get_by_text(name, exact=True)).first
        expect(row.get_by_text("autoint_mlp")).to_be_visible()
    page.get_by_text("on_own_test_rows", exact=True).first.evaluate("cell => cell.scrollIntoView()")
    kept(page, screenshots, "asset-model-comparison")


def test_curves_of_both_models_lie_over_each_other(page: Page, uis: Uis, screenshots: Path) -> None:
    page.goto(f"{uis.dagster}/assets/model_comparison")
    link = page.get_by_role("link", name=re.compile(r"\/metric"))
    page.goto(str(link.get_attribute("href")))
    only_the_page(page)
    curves = [f"{model} version 1 ({loss}_loss)" for model in ("autoint", "autoint_mlp") for loss in ("train", "val")]
    for curve in curves:
        expect(page.get_by_text(curve, exact=True)).to_be_visible()
    lines = page.locator("path.js-line")
    expect(lines.first).to_be_attached()
    assert len(set(lines.evaluate_all("lines => lines.map(line => line.getAttribute('d'))"))) >= len(curves)
    kept(page, screenshots, "mlflow-curves")


def test_two_clicks_compare_the_models_in_mlflow(page: Page, uis: Uis) -> None:
    page.goto(f"{uis.mlflow}/#/experiments")
    page.get_by_text("Model training", exact=True).click()  # kept by the browser
    page.get_by_role("link", name=f"movie-recommender-{DATASET}").first.click()
    page.locator("label", has=page.locator("input[value=CHART]")).click()
    expect_curves_over_each_other(page)


def expect_curves_over_each_other(page: Page) -> None:
    for model in ("autoint", "autoint_mlp"):
        expect(page.get_by_role("link", name=f"{model} version 1", exact=True)).to_be_visible()
    page.get_by_placeholder("Search metric charts").fill("_loss")
    for loss in ("train_loss", "val_loss"):
        chart = page.get_by_test_id("experiment-view-compare-runs-card").filter(has_text=loss)
        expect(chart.locator("path.js-line").first).to_be_attached()
        drawn = chart.locator("path.js-line").evaluate_all("lines => lines.map(line => line.getAttribute('d'))")
        assert len(set(drawn)) == len(MODELS)


def test_registered_model_and_its_versions(page: Page, uis: Uis, screenshots: Path) -> None:
    page.goto(f"{uis.mlflow}/#/models/{DATASET}-autoint")
    expect(page.get_by_text("self-attention over feature embeddings").first).to_be_visible()
    page.get_by_role("link", name="Version 1").click()
    for alias in ("champion", "challenger"):
        expect(page.get_by_text(alias).first).to_be_visible()
    expect(page.get_by_role("link", name="Dagster run")).to_have_attribute("href", re.compile("/runs/"))
    only_the_page(page)
    kept(page, screenshots, "mlflow-version")
