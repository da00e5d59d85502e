"""The library on anybody's tables, from files to lists: string ids, numbers, several values, with times or not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ml.data.datasets import load_datasets
from ml.data.source import Source
from ml.features.feature_map import FeatureMap
from ml.features.splits import split_interactions
from ml.features.tables import join_interactions, preprocess_ratings
from ml.inference.explanations import Explanations
from ml.inference.held_out import held_out_lists
from ml.inference.recommend import Recommender
from ml.inference.scorer import Scorer
from ml.inference.tensorflow_export import export_bundle
from ml.models.bundle import ModelBundle
from ml.training.data import TrainingData
from ml.training.fitting import Fitting
from ml.training.recipes import Recipe
from tests import plain_tensorflow
from tests.collaborative import folds_of
from tests.feature_maps import encode_interactions

USERS, ITEMS = 12, 15


def described(folder: Path, with_times: bool) -> dict[str, Any]:
    """Write ratings and items; return their description."""
    rng = np.random.default_rng(5)
    pairs = [(user, item) for user in range(USERS) for item in rng.choice(ITEMS, 12, replace=False)]
    rows = [f"u{user:02d},i/{item},{rng.integers(1, 11)},2024-0{1 + n % 3}-01" for n, (user, item) in enumerate(pairs)]
    (folder / "ratings.csv").write_text("user,item,points,day\n" + "\n".join(rows), "utf-8")
    items = [f"i/{item},{'ab'[item % 2]},{'x|y' if item % 3 else ''},{item}" for item in range(ITEMS)]
    (folder / "items.csv").write_text("item,shelf,tags,weight\n" + "\n".join(items), "utf-8")
    times = {"timestamp": "day"} if with_times else {}
    return {
        "reader": "table",
        "liked": 6,
        "ratings": {"path": "ratings.csv", "user": "user", "item": "item", "rating": "points", **times},
        "items": {
            "path": "items.csv",
            "key": "item",
            "features": {"shelf": "categorical", "tags": "multivalued", "weight": {"kind": "numeric", "bins": 3}},
        },
    }


@pytest.mark.parametrize("with_times", [True, False], ids=["times", "no-times"])
def test_lists_come_of_any_tables(tmp_path: Path, with_times: bool) -> None:
    path = tmp_path / "datasets.yaml"
    path.write_text(yaml.safe_dump({"datasets": {"own": described(tmp_path, with_times)}}), "utf-8")
    form = Source("own", load_datasets(path), tmp_path).format
    raw = form.read(tmp_path)
    users, movies = form.prepare_users(raw.users, raw.users), form.prepare_movies(raw.movies, raw.movies)
    ratings = preprocess_ratings(raw.ratings, form.description.liked)
    assert ratings["label"].tolist() == (raw.ratings["rating"] >= 6).astype(int).tolist()
    tables = [table.assign(ingestion_batch=0) for table in (users, movies, ratings)]
    feature_map = FeatureMap.grow(*tables, form.description)
    assert feature_map.has_times == with_times
    train, test = split_interactions(encode_interactions(join_interactions(users, movies, ratings), feature_map))
    recipe = Recipe(
        description="x", architecture="autoint", without=("user_id",), multivalued=("tags", "genres"),
        signals={"factorizations": {"rating_2": {"factors": 2}}, "ease": {"likes": {"penalty": 5}},
                 "exposure_factors": 2, "affinity_fields": ("shelf", "genre1")},
        model={"embed_dim": 4, "num_layers": 1, "head_dim": 2}, training={"epochs": 1, "batch_size": 32},
    )  # fmt: skip
    assert recipe.obstacle(feature_map) == ""
    data = TrainingData.of(recipe, train, feature_map, movies, folds_of(recipe, train, feature_map))
    assert data.pairs is not None
    assert data.pairs.names[:4] == ("rating_2", "likes", "exposure", "shelf_affinity")
    assert [each.name for each in data.inputs.multivalued] == ["tags"]
    fitting = Fitting(recipe, data)
    fitting.run(lambda report: None)
    bundle = ModelBundle.of(fitting.serving_network, feature_map, users, movies)
    scorer = Scorer(bundle)
    moment = (2024, 3) if with_times else (1970, 1)
    found = Recommender(scorer, ratings).recommend("u00", *moment)
    seen = set(ratings.loc[ratings["user_id"] == "u00", "movie_id"])
    assert set(found["movie_id"]) == set(movies["movie_id"]) - seen
    assert found["score"].is_monotonic_decreasing
    lists, _ = held_out_lists(scorer, train)
    assert lists["user_id"].nunique() == USERS
    assert Explanations.of(scorer) is not None
    assert np.isfinite(scorer.score_encoded(test)).all()
    export_bundle(bundle, tmp_path / "1")
    pairs = ratings[["user_id", "movie_id"]].assign(year=moment[0], month=moment[1])
    [alone] = plain_tensorflow.scores([(tmp_path / "1", pairs)])
    np.testing.assert_allclose(alone, scorer.score_pairs(pairs), rtol=0, atol=1e-6)
