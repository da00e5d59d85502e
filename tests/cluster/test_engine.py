"""Work and training on a cluster whose nodes are killed in the middle."""

import time
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from upath import UPath

from ml.features.feature_map import FeatureMap
from ml.inference import shards
from ml.inference.scored import score_rows
from ml.inference.scorer import Scorer
from ml.inference.shards import Means, Search, search_all
from ml.models.bundle import ModelBundle
from ml.training.data import TrainingData
from ml.training.fitting import Fitting
from ml.training.recipes import Recipe
from ml.training.reports import EpochReport
from orchestration.compute.ray_engine import RayEngine
from tests.cluster.nodes import Cluster
from tests.feature_maps import encode_interactions

pytestmark = pytest.mark.cluster


def engine_of(nodes: Cluster, folder: Path) -> RayEngine:
    return RayEngine(nodes.address, 2, 1, UPath(folder / "storage"))


def slow_square(state: int, item: int) -> int:
    time.sleep(2)
    return state * item * item


def prepared(shared: int) -> int:
    return shared


def test_work_of_a_lost_node_is_done_again_and_comes_once(nodes: Cluster, tmp_path: Path) -> None:
    found = []
    for number, result in engine_of(nodes, tmp_path)(prepared, slow_square, range(8), 10):
        found.append((number, result))
        if len(found) == 2:
            nodes.kill()
    assert sorted(found) == [(number, 10 * number**2) for number in range(8)]


def test_an_error_of_the_work_is_raised(nodes: Cluster, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="can't multiply sequence"):
        list(engine_of(nodes, tmp_path)(prepared, slow_square, ["text"], None))


def test_lists_and_scores_are_the_local_ones(
    nodes: Cluster,
    bundle: ModelBundle,
    small_interactions: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, encoded = engine_of(nodes, tmp_path), encode_interactions(small_interactions, bundle.feature_map)
    np.testing.assert_array_equal(score_rows(bundle, encoded, engine), Scorer(bundle).score_encoded(encoded))

    users, movies = encoded["user_id"].to_numpy(), encoded["movie_id"].to_numpy()
    scorer = Scorer(bundle)
    request = Search(scorer, scorer.matrix(users, movies, bool), [(2001, 3), (2002, 6)], 10, "shortlist", 42)
    expected = search_all(request, lambda done: None)
    monkeypatch.setattr(shards, "FEWEST_USERS", 1)
    engine.parts = 6
    done: list[int] = []

    def killing(count: int) -> None:
        done.append(count)
        if len(done) == 2:
            nodes.kill()

    found = search_all(request, killing, Means(tmp_path, engine))
    assert done == sorted(set(done))
    assert done[-1] == 2 * len(bundle.users)
    for (lists, report), (own, _) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(lists.movies, own.movies)
        np.testing.assert_allclose(lists.scores, own.scores, rtol=0, atol=1e-6)
        assert report.shards == 6


@pytest.fixture
def recipe() -> Recipe:
    return Recipe(
        description="For tests.",
        architecture="autoint",
        model={"embed_dim": 4, "num_layers": 1, "head_dim": 2},
        training={"epochs": 2, "batch_size": 512, "learning_rate": 0.01, "reshuffle": True},
    )


def test_training_goes_on_after_a_lost_node(
    nodes: Cluster,
    recipe: Recipe,
    small_interactions: pd.DataFrame,
    small_movies: pd.DataFrame,
    small_feature_map: FeatureMap,
    tmp_path: Path,
) -> None:
    rows = encode_interactions(small_interactions, small_feature_map).sample(frac=1, random_state=1)
    data = TrainingData.of(recipe, rows.reset_index(drop=True), small_feature_map, small_movies)
    alone, together = Fitting(recipe, data), Fitting(recipe, data)
    expected = alone.run(lambda report: None)
    epochs: list[int] = []

    def killing(report: EpochReport) -> None:
        epochs.append(report.epoch)
        if report.epoch == 1:
            nodes.kill()

    engine = engine_of(nodes, tmp_path)
    reports = engine.train(together, killing, lambda report: None, "films/autoint/print")
    assert epochs == [1, 2]
    for found, own in zip(reports, expected, strict=True):
        assert found.train_loss == pytest.approx(own.train_loss, abs=1e-4)
        assert found.val_loss == pytest.approx(own.val_loss, abs=1e-4)
    for weights, own_weights in zip(together.network.get_weights(), alone.network.get_weights(), strict=True):
        np.testing.assert_allclose(weights, own_weights, rtol=0, atol=1e-5)
    stored = tmp_path / "storage" / "films" / "autoint"
    assert [path.name for path in stored.iterdir()] == ["print"]
    engine.forget("films/autoint/print")
    assert not stored.exists()


def test_too_small_a_cluster_is_refused(nodes: Cluster, tmp_path: Path) -> None:
    with pytest.raises(dg.Failure) as failure:
        list(RayEngine(nodes.address, 4, 1, UPath(tmp_path))(prepared, slow_square, [1], 1))
    assert "has 4 CPUs; expected at least 5: 4 workers of 1" in str(failure.value.description)


def test_no_cluster_is_refused(tmp_path: Path) -> None:
    with pytest.raises(dg.Failure) as failure:
        list(RayEngine("127.0.0.1:1", 1, 1, UPath(tmp_path))(prepared, slow_square, [1], 1))
    assert "There is no Ray cluster at 127.0.0.1:1" in str(failure.value.description)
