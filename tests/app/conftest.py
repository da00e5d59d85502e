"""Provide a home with two published models, and copies to write to."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ml.data.formats import RawTables
from ml.data.movielens_tables import preprocess_movies, preprocess_users
from ml.features.tables import join_interactions, preprocess_ratings
from ml.models.autoint import Inputs, build_model
from ml.models.bundle import ModelBundle
from ml.models.config import AutoIntConfig
from orchestration.config.settings import Settings
from tests.feature_maps import fitted
from tests.published_home import publish, write_tables
from tests.string_ids import with_string_vocabulary, with_strings

MODELS = {"autoint": "3", "autoint_mlp": "1"}  # published versions
METRICS = {  # only the first one is calibrated; the second has the best catalog NDCG, so it is the default
    "autoint": {"expected_calibration_error": 0.01, "catalogue_ndcg_at_10": 0.1, "auc": 0.8},
    "autoint_mlp": {"expected_calibration_error": 0.2, "catalogue_ndcg_at_10": 0.3, "auc": 0.7},
}


@pytest.fixture(scope="session")
def tables(small_raw: RawTables) -> dict[str, pd.DataFrame]:
    """Return the preprocessed tables; do not modify them."""
    users, movies = preprocess_users(small_raw.users), preprocess_movies(small_raw.movies)
    return {"users": users, "movies": movies, "ratings": preprocess_ratings(small_raw.ratings)}


@pytest.fixture(scope="session")
def bundles(tables: dict[str, pd.DataFrame]) -> dict[str, ModelBundle]:
    """Return two networks with random weights that rank differently."""
    feature_map = fitted(join_interactions(**tables))
    made = {}
    for seed, name in enumerate(MODELS):
        network = build_model(
            "autoint", Inputs(feature_map.field_dims), AutoIntConfig(embed_dim=4, num_layers=1, head_dim=2), seed=seed
        )
        rng = np.random.default_rng(seed)
        for weight in network.weights:
            weight.assign(rng.normal(scale=0.5, size=weight.shape))
        made[name] = ModelBundle.of(network, feature_map, tables["users"], tables["movies"])
    return made


@pytest.fixture(scope="session")
def published_home(
    tables: dict[str, pd.DataFrame], bundles: dict[str, ModelBundle], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return a home with two published models; do not modify it."""
    home = tmp_path_factory.mktemp("published")
    write_tables(home, tables)
    for name, version in MODELS.items():
        publish(home, name, version, bundles[name], tables["ratings"], metrics=METRICS[name])
    return home


@pytest.fixture(scope="session")
def home_of_strings(
    tables: dict[str, pd.DataFrame], bundles: dict[str, ModelBundle], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return the published home with strings as ids; do not modify it."""
    home = tmp_path_factory.mktemp("strings")
    named = {name: with_strings(table) for name, table in tables.items()}
    write_tables(home, named)
    for name, version in MODELS.items():
        bundle = with_string_vocabulary(bundles[name])
        publish(home, name, version, bundle, named["ratings"], metrics=METRICS[name])
    return home


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, published_home: Path) -> pytest.MonkeyPatch:
    """Set PIPELINE_HOME to the published home, and remove all other settings."""
    monkeypatch.setitem(Settings.model_config, "env_file", None)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("PIPELINE_HOME", str(published_home))
    return monkeypatch


@pytest.fixture
def own_home(published_home: Path, tmp_path: Path) -> Path:
    """Return a copy of the published home to write to."""
    shutil.copytree(published_home, tmp_path / "home")
    return tmp_path / "home"
