"""Nights on which ratings arrive: from which version a model's training begins, and what is said of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import keras
import numpy as np
import pandas as pd
import pytest

from ml.training.config import WarmStartConfig
from orchestration.resources.raw_data import RawData
from orchestration.tracking.resource import Tracking
from tests.orchestration.conftest import (
    DATASET,
    RUN_CONFIG,
    Pipeline,
    failure_text,
    retraining,
    run_job,
)
from tests.orchestration.recipes import RECIPES

NAME = f"{DATASET}-autoint"
SETTINGS = WarmStartConfig(epochs=2, replay=3, learning_rate=1e-3, max_generations=2)
NEW_ROWS = 200


@dataclass
class Nights:
    """A home whose autoint has a warm start."""

    home: Path
    cache: Path
    instance: dg.DagsterInstance
    patch: pytest.MonkeyPatch
    begun_with: list[list[np.ndarray]] = field(default_factory=list)

    @property
    def tracking(self) -> Tracking:
        return Tracking(raw_data=RawData.of(DATASET))

    def arrive(self, batch: int) -> None:
        """The last training rows are of this batch, those before them of the base files."""
        path = self.home / "tables" / DATASET / "train_interactions.parquet"
        rows = pd.read_parquet(path)
        numbers = np.zeros(len(rows), np.int32)
        if batch:
            numbers[-NEW_ROWS:] = batch
        rows.assign(ingestion_batch=numbers).to_parquet(path, index=False)

    def night(
        self, config: Mapping[str, Any] = RUN_CONFIG, raise_on_error: bool = True, **settings: Any
    ) -> dg.ExecuteInProcessResult:
        """Train, if there is something to train, by a recipe with a warm start."""
        recipe = RECIPES["autoint"].model_copy(update={"warm_start": SETTINGS.model_copy(update=settings)})
        others = {name: own for name, own in RECIPES.items() if name != "autoint"}
        with self.patch.context() as patch:
            patch.setattr("orchestration.definitions.recipes_in_force", lambda: {"autoint": recipe, **others})
            return run_job(self.instance, config, "autoint", raise_on_error=raise_on_error)

    def publish(self, number: str) -> None:
        self.tracking.publication("autoint").publish(self.tracking.versions("autoint")[number], b"table", b"bundle")

    def tags(self, number: str) -> dict[str, str]:
        tags = self.tracking.client.get_model_version(NAME, number).tags
        return {tag: value for tag, value in tags.items() if tag.startswith(("warm_start", "last_batch"))}


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    [made] = result.asset_materializations_for_node("autoint")
    return {name: entry.value for name, entry in made.metadata.items()}


def said(found: Mapping[str, Any]) -> dict[str, Any]:
    """Of a night's metadata, what tells of its beginning."""
    return {name: value for name, value in found.items() if name.startswith(("warm_start", "last_batch"))}


@pytest.fixture
def nights(materialized: Pipeline, instance: dg.DagsterInstance, env: pytest.MonkeyPatch, own_home: Path) -> Nights:
    """Version 1, of a recipe without a warm start, is the champion."""
    found = Nights(own_home, materialized.cache, instance, env)
    fit = keras.Model.fit

    def watched_fit(model: keras.Model, *arguments: Any, **options: Any) -> Any:
        found.begun_with.append([np.asarray(weight).copy() for weight in model.get_weights()])
        return fit(model, *arguments, **options)

    env.setattr(keras.Model, "fit", watched_fit)
    return found


def test_night_after_night(nights: Nights) -> None:
    nights.arrive(0)
    first = metadata(nights.night())
    reason = "from scratch: version 1, the champion, was trained with another recipe"
    assert nights.tags("2") == {"last_batch": "0", "warm_start": reason, "warm_start.generation": "0"}
    assert said(first) == nights.tags("2")
    assert first["epoch"] == 3
    nights.publish("2")

    nights.arrive(4)
    second = metadata(nights.night())
    expected = {
        "last_batch": "4",
        "warm_start": "from version 2, trained on data up to ingestion batch 0",
        "warm_start.parent": "2",
        "warm_start.generation": "1",
        "warm_start.new_rows": str(NEW_ROWS),
        "warm_start.replayed_rows": str(3 * NEW_ROWS),
    }
    assert nights.tags("3") == expected
    assert said(second) == expected
    run = nights.tracking.client.get_run(nights.tracking.versions("autoint")["3"].run_id)
    assert {tag: run.data.tags[tag] for tag in expected} == expected
    assert {name: run.data.params[f"warm_start.{name}"] for name in ("epochs", "replay")} == {
        "epochs": "2", "replay": "3.0",
    }  # fmt: skip
    assert second["epoch"] == 2
    learned = nights.tracking.load_bundle(nights.tracking.versions("autoint")["2"]).network.get_weights()
    assert len(nights.begun_with) == 2
    for begun, weight in zip(nights.begun_with[-1], learned, strict=True):
        np.testing.assert_allclose(begun, weight, atol=1e-7)

    again = metadata(nights.night())  # nothing came since
    assert (again["reused"], said(again), again["model_version"]) == (True, expected, 3)
    assert len(nights.begun_with) == 2


@pytest.mark.slow
def test_warm_starts_in_a_row_are_counted(nights: Nights) -> None:
    nights.arrive(0)
    nights.night()
    nights.publish("2")
    nights.arrive(4)
    nights.night()

    nights.arrive(5)  # version 3 was not promoted: its rows count as new once more
    assert metadata(nights.night())["warm_start.parent"] == "2"
    nights.publish("4")
    nights.arrive(6)
    assert metadata(nights.night())["warm_start.generation"] == "2"
    nights.publish("5")
    nights.arrive(7)
    last = metadata(nights.night())
    assert last["warm_start"] == "from scratch: version 5, the champion, is the last of 2 warm starts in a row"
    assert (last["warm_start.generation"], last["epoch"]) == ("0", 3)


@pytest.mark.slow
def test_without_new_rows_it_begins_from_scratch(nights: Nights) -> None:
    nights.arrive(3)
    nights.night()
    nights.publish("2")
    users = nights.home / "tables" / DATASET / "users.parquet"
    pd.read_parquet(users).iloc[::-1].to_parquet(users, index=False)  # other data, the same training rows
    assert metadata(nights.night())["warm_start"] == "from scratch: no row to learn from came after batch 3"


@pytest.mark.slow
def test_asked_to_retrain_it_begins_from_scratch(nights: Nights) -> None:
    nights.arrive(0)
    nights.night()
    nights.publish("2")
    nights.arrive(1)
    assert metadata(nights.night(retraining(RUN_CONFIG)))["warm_start"] == "from scratch: retrain was requested"


@pytest.mark.slow
@pytest.mark.parametrize("registered", [True, False])
def test_without_a_champion_it_begins_from_scratch(nights: Nights, registered: bool) -> None:
    if registered:
        (nights.home / "archive" / DATASET / "autoint" / "champions.json").unlink()
    else:
        nights.tracking.client.delete_registered_model(NAME)
    nights.arrive(2)
    found = metadata(nights.night())
    assert found["warm_start"] == "from scratch: no version is published"
    assert found["last_batch"] == "2"


def test_rows_without_deliveries_are_an_error(nights: Nights) -> None:
    path = nights.home / "tables" / DATASET / "train_interactions.parquet"
    pd.read_parquet(path).drop(columns="ingestion_batch").to_parquet(path, index=False)
    result = nights.night(raise_on_error=False)
    assert "train_interactions has no column ingestion_batch" in failure_text(result, "autoint")
    assert nights.begun_with == []
    assert list(nights.tracking.versions("autoint")) == ["1"]


@pytest.mark.slow
def test_a_recipe_without_a_warm_start_says_what_it_has_learned(nights: Nights) -> None:
    nights.arrive(2)
    result = run_job(nights.instance, RUN_CONFIG, "autoint")
    assert said(metadata(result)) == nights.tags("2") == {"last_batch": "2"}
