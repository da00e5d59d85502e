import io
import json
import zipfile
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from upath import UPath

from ml.errors import DataError
from ml.features.collaborative_tables import CollaborativeTables
from ml.features.feature_map import FeatureMap, FieldVocabulary
from ml.models.autoint import Inputs, Multivalued, Token, build_model, with_collaborative
from ml.models.bundle import ModelBundle
from ml.models.config import AutoIntCINConfig, AutoIntConfig, AutoIntMLPConfig
from ml.training.data import PAIR
from tests.ml.models.reference import randomize

STARTS = {".keras": b"PK", ".h5": b"\x89HDF", ".json": b"{", ".parquet": b"PAR1"}


@pytest.fixture(scope="module")
def saved(bundle: ModelBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "model.zip"
    bundle.save(path)
    return path


def members(data: bytes) -> dict[str, bytes]:
    """Contents of a zip archive, those of the zip archives within it included."""
    found: dict[str, bytes] = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            found[name] = archive.read(name)
            if found[name].startswith(b"PK"):
                found |= members(found[name])
    return found


def codes(bundle: ModelBundle) -> np.ndarray:
    return np.random.default_rng(0).integers(0, bundle.feature_map.field_dims, size=(50, 14), dtype=np.int32)


def assert_equal_bundles(loaded: ModelBundle, bundle: ModelBundle) -> None:
    np.testing.assert_array_equal(loaded.network(codes(bundle)), bundle.network(codes(bundle)))
    assert loaded.feature_map == bundle.feature_map
    pd.testing.assert_frame_equal(loaded.users, bundle.users)
    pd.testing.assert_frame_equal(loaded.movies, bundle.movies)


def test_round_trip(bundle: ModelBundle, saved: Path) -> None:
    assert_equal_bundles(ModelBundle.load(saved), bundle)


def test_loads_from_other_file_systems(bundle: ModelBundle, saved: Path) -> None:
    path = UPath("memory://bundles/model.zip")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(saved.read_bytes())
    try:
        assert_equal_bundles(ModelBundle.load(path), bundle)
    finally:
        path.unlink()


def test_file_is_a_zip_without_pickles(saved: Path) -> None:
    contents = members(saved.read_bytes())
    files = {"network.keras", "feature_map.json", "users.parquet", "movies.parquet", "numbers.json", "lists.json"}
    assert files <= contents.keys()
    assert json.loads(contents.pop("numbers.json")) == []
    for name, content in contents.items():
        assert content.startswith(STARTS[Path(name).suffix]), name


def test_holds_the_rated_movies_and_all_users_by_id(
    bundle: ModelBundle, small_interactions: pd.DataFrame, small_movies: pd.DataFrame, small_users: pd.DataFrame
) -> None:
    rated = sorted(set(small_interactions["movie_id"]))
    assert bundle.movies["movie_id"].tolist() == rated
    assert len(rated) < len(small_movies)
    assert bundle.users["user_id"].tolist() == sorted(small_users["user_id"])
    row = small_movies[small_movies["movie_id"] == rated[7]].iloc[0]
    assert bundle.movies.iloc[7].to_dict() == row.to_dict()


def test_known_rows_come_in_code_order() -> None:
    feature_map = FeatureMap((FieldVocabulary("movie_id", "movie", values=(3, 7, 20)),))
    table = pd.DataFrame({"title": ["g", "u", "t", "c"], "movie_id": [7, 9, 20, 3]}, index=[4, 4, 1, 0])
    expected = pd.DataFrame({"movie_id": [3, 7, 20], "title": ["c", "g", "t"]})
    pd.testing.assert_frame_equal(feature_map.known("movie_id", table), expected)


def test_names_of_numbers_survive_the_file(bundle: ModelBundle, tmp_path: Path) -> None:
    inputs = Inputs(bundle.feature_map.field_dims, [3, 10], centres=[0.5, -1.0], scales=[2.0, 3.0])
    network = build_model("autoint", inputs, AutoIntConfig(embed_dim=4, num_layers=1, head_dim=2), seed=1)
    randomize(network, scale=0.5)
    timed = ModelBundle.of(network, bundle.feature_map, bundle.users, bundle.movies, ("timestamp", "age_in_days"))
    timed.save(tmp_path / "model.zip")
    loaded = ModelBundle.load(tmp_path / "model.zip")
    assert loaded.numbers == timed.numbers == ("timestamp", "age_in_days")
    given = [codes(bundle), np.random.default_rng(1).normal(size=(50, 2)).astype(np.float32)]
    expected = np.asarray(network(given))
    assert np.ptp(expected) > 0.1
    np.testing.assert_array_equal(loaded.network(given), expected)


ALL = {"projection_relu": True, "layer_norm": True, "attention_dropout": 0.1, "embedding_dropout": 0.1}
ALL |= {"attention": "entmax", "local_layers": 1}
SMALL = {"embed_dim": 4, "num_layers": 2, "head_dim": 2}
NETWORKS = {
    "mlp": ("autoint_mlp", AutoIntMLPConfig(**SMALL, batch_normalization=True, l2_deep=0.1, l2_embedding=0.1)),
    "cin": ("autoint_cin", AutoIntCINConfig(**SMALL, feature_maps=[5, 3], l2_interaction=0.1)),
    "all options": ("autoint", AutoIntConfig(**SMALL, **ALL)),
    "trained, with signals": ("autoint", AutoIntConfig(**SMALL, use_residual=False, scaled=True)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_every_kind_survive_the_file(name: str, bundle: ModelBundle, tmp_path: Path) -> None:
    dims = bundle.feature_map.field_dims
    architecture, config = NETWORKS[name]
    inputs = Inputs(dims)
    if name == "all options":
        genres = Multivalued("genres", PAIR[1], np.full((dims[PAIR[1]], 3), 1 / 3, np.float32))
        tokens = (Token("movie_year", "movie"), Token("gender", "user"), Token("genres", "movie"))
        inputs = Inputs(dims, [3, 10], multivalued=(genres,), tokens=tokens)
    if name == "trained, with signals":
        inputs = Inputs(dims, [3, 1, 10], centres=[0.5, -1.0], scales=[2.0, 3.0])
    network = build_model(architecture, inputs, config, seed=1)
    randomize(network, scale=0.5)
    if name == "trained, with signals":
        schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
        network.compile(keras.optimizers.Adam(schedule), "binary_crossentropy")
        network.optimizer.build(network.trainable_variables)
        sides = [np.ones((dims[position], 5), np.float32) for position in PAIR]
        network = with_collaborative(network, CollaborativeTables(("a", "b"), (2, 3), *sides), PAIR)
    made = ModelBundle.of(network, bundle.feature_map, bundle.users, bundle.movies)
    made.save(tmp_path / "model.zip")
    assert_equal_bundles(ModelBundle.load(tmp_path / "model.zip"), made)


def test_a_bundle_takes_no_numbers_unless_told(bundle: ModelBundle, saved: Path) -> None:
    assert bundle.numbers == ModelBundle.load(saved).numbers == ()


@pytest.mark.parametrize("name", ["numbers.json", "feature_map.json", "movies.parquet"])
def test_an_archive_without_a_part_is_refused_by_its_name(name: str, saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "partial.zip"
    with zipfile.ZipFile(saved) as whole, zipfile.ZipFile(path, "w") as partial:
        for other in set(whole.namelist()) - {name}:
            partial.writestr(other, whole.read(other))
    with pytest.raises(DataError, match=rf"partial\.zip: not a model bundle, {name} missing$"):
        ModelBundle.load(path)


def foreign_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("feature_map.json", "{}")
    return buffer.getvalue()


def test_foreign_zip(tmp_path: Path) -> None:
    path = tmp_path / "foreign.zip"
    path.write_bytes(foreign_zip())
    with pytest.raises(DataError, match=r"foreign\.zip.*movies\.parquet, network\.keras, .* missing"):
        ModelBundle.load(path)


@pytest.mark.parametrize("damage", ["empty", "text", "truncated", "changed network", "changed table"])
def test_damaged_file(damage: str, saved: Path, tmp_path: Path) -> None:
    data = saved.read_bytes()
    table_end = data.rindex(b"PAR1")
    damaged = {
        "empty": b"",
        "text": b"no archive at all",
        "truncated": data[: len(data) // 2],
        "changed network": data[:200] + bytes([data[200] ^ 255]) + data[201:],
        "changed table": data[:table_end] + b"RAP1" + data[table_end + 4 :],
    }[damage]
    path = tmp_path / "damaged.zip"
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=r"damaged\.zip.*not a model bundle"):
        ModelBundle.load(path)


def test_missing_file_names_its_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.zip"):
        ModelBundle.load(tmp_path / "absent.zip")
