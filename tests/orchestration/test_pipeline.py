import io
import itertools
import math
import tempfile
import zipfile
from collections import defaultdict
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import keras
import numpy as np
import pandas as pd
import pytest

from ml.features.collaborative import CollaborativeConfig, parts_of
from ml.features.collaborative_folds import CollaborativeFolds
from ml.files import digest
from ml.published.recommendations import get_recommendations
from orchestration.resources.raw_data import RawData
from orchestration.tracking.resource import Tracking
from tests.orchestration.conftest import (
    ARCHITECTURE,
    DATASET,
    EPOCHS,
    LIST_METRICS,
    METRICS,
    RUN_CONFIG,
    TRAINING,
    Pipeline,
    assert_same_list,
    failure_text,
    retraining,
    run_job,
)
from tests.orchestration.recipes import COLLABORATIVE_MODELS, MODELS, RECIPES

TABLES = {
    "raw_users", "raw_movies", "raw_ratings", "users", "movies", "ratings", "encoded_interactions",
    "train_interactions", "test_interactions", "baseline_scores", "baseline_metrics",
    "evaluation", "comparison", "evaluation_by_activity",
    *(f"{model}_{what}" for model in MODELS for what in ("scores", "metrics", "lists", "list_metrics")),
    "baseline_lists", "baseline_list_metrics", *(f"top10_{model}" for model in MODELS), "data_drift",
}  # fmt: skip
EMPTY = {"ingested_users", "ingested_movies", "ingested_ratings"}  # nothing came after the base files
DOCUMENTS = {"ingestion_batches", "feature_map", "promotion", *MODELS}
TOP_COLUMNS = {
    "user_id": "int32", "rank": "int16", "movie_id": "int32", "title": "str", "genres": "str", "score": "float32",
    "rating_year": "int16", "rating_month": "int8", "model": "str", "model_version": "str",
}  # fmt: skip
LIST_BASELINES = ("popularity", "movie_mean", "matrix_factorization", "implicit_als", "ease")
BASELINES = ("random", "movie_mean", "matrix_factorization", "ceiling")
Row = dict[str, Any]


@cache
def network_in(bundle: Path) -> keras.Model:
    """The network inside a bundle's file."""
    with zipfile.ZipFile(bundle) as archive, tempfile.TemporaryDirectory() as folder:
        return keras.saving.load_model(archive.extract("network.keras", folder), compile=False)


def probabilities(network: keras.Model, codes: list[list[int]]) -> list[float]:
    return np.asarray(network(np.array(codes, dtype=np.int32)))[:, 0].tolist()


def latest_month(pipeline: Pipeline) -> tuple[int, int]:
    """Of the raw file."""
    lines = (pipeline.cache / DATASET / "ratings.dat").read_text("latin-1").splitlines()
    latest = datetime.fromtimestamp(max(int(line.split("::")[3]) for line in lines), UTC)
    return latest.year, latest.month


def test_all_tables_are_there(pipeline: Pipeline) -> None:
    assert {path.stem for path in pipeline.tables.glob("*.parquet")} == TABLES | EMPTY
    assert {path.stem for path in pipeline.tables.glob("*.json")} == DOCUMENTS
    assert {path.stem for path in pipeline.tables.glob("*.npz")} == {"collaborative_features"}
    assert all(len(pipeline.table(name)) for name in TABLES)
    assert all(pipeline.document(name) for name in DOCUMENTS)
    assert len(pipeline.table("raw_ratings")) == 15_000


def test_every_check_refers_to_what_was_written(pipeline: Pipeline) -> None:
    """Dagster's UI shows only such results for a partition."""
    keys = {result.asset_check_key for result in pipeline.result.get_asset_check_evaluations()}
    assert {info.check_key for info in pipeline.checks} == keys
    assert len(pipeline.checks) > 30
    assert [info.check_key for info in pipeline.checks if not info.is_current] == []


def test_duckdb_reads_the_tables(pipeline: Pipeline) -> None:
    duckdb = pytest.importorskip("duckdb")
    for name in TABLES:
        table = pipeline.table(name)
        found = duckdb.sql(f"SELECT * FROM '{pipeline.tables / name}.parquet'")
        assert found.columns == table.columns.tolist()
        rows = table.astype(object).where(table.notna(), None).to_numpy()
        assert found.fetchall() == [tuple(row) for row in rows], name


def test_no_temporary_file_is_left(pipeline: Pipeline) -> None:
    files = [path for folder in (pipeline.home, pipeline.cache) for path in folder.rglob("*")]
    assert len(files) > len(TABLES)
    assert [path for path in files if path.name.startswith(".") or path.suffix == ".tmp"] == []


@pytest.mark.parametrize("model", MODELS)
def test_top_table(pipeline: Pipeline, model: str) -> None:
    top = pipeline.table(f"top10_{model}")
    assert {name: str(dtype) for name, dtype in top.dtypes.items()} == TOP_COLUMNS
    assert list(top) == list(TOP_COLUMNS)
    assert set(zip(top["rating_year"], top["rating_month"], strict=True)) == {latest_month(pipeline)}
    assert set(top["model"]) == {model}
    assert set(top["model_version"]) == {pipeline.document(model)["version"]} == {"1"}
    users = pipeline.table("users")["user_id"]
    assert top["user_id"].tolist() == [user for user in sorted(users) for _ in range(10)]
    assert top["rank"].tolist() == list(range(1, 11)) * len(users)


@pytest.mark.parametrize("model", MODELS)
def test_top_lists_equal_brute_force(pipeline: Pipeline, model: str) -> None:
    network = network_in(pipeline.bundle_path(model))
    top = pipeline.table(f"top10_{model}")
    users: list[Row] = pipeline.table("users").to_dict("records")
    movies: dict[int, Row] = {row["movie_id"]: row for row in pipeline.table("movies").to_dict("records")}
    fields = pipeline.document("feature_map")["fields"]
    codes_of = {field["name"]: {value: code for code, value in enumerate(field["values"])} for field in fields}
    seen = defaultdict(set)
    for user_id, movie_id in pipeline.table("ratings")[["user_id", "movie_id"]].itertuples(index=False):
        seen[user_id].add(movie_id)
    year, month = latest_month(pipeline)
    context = {"rating_year": year, "rating_month": month, "rating_decade": f"{year // 10 * 10}s"}

    pairs = [
        (user, movie) for user in users[::6] for movie in codes_of["movie_id"] if movie not in seen[user["user_id"]]
    ]
    rows = [{**context, **user, **movies[movie]} for user, movie in pairs]
    codes = [[codes_of[field["name"]][row[field["name"]]] for field in fields] for row in rows]
    candidates = defaultdict(list)
    for (user, movie), score in zip(pairs, probabilities(network, codes), strict=True):
        candidates[user["user_id"]].append((-score, movie))

    assert len(candidates) == 50
    for user_id, scored in candidates.items():
        best = [(rank, movie, -score) for rank, (score, movie) in enumerate(sorted(scored)[:10], 1)]
        found = top[top["user_id"] == user_id]
        assert_same_list(found, pd.DataFrame(best, columns=["rank", "movie_id", "score"]))
        for row in found.to_dict("records"):
            assert (row["title"], row["genres"]) == (
                movies[row["movie_id"]]["title"],
                movies[row["movie_id"]]["genres"],
            )


@pytest.mark.parametrize("model", MODELS)
def test_lists_differ_between_users(pipeline: Pipeline, model: str) -> None:
    lists = pipeline.table(f"top10_{model}").groupby("user_id")["movie_id"].agg(tuple)
    assert lists.nunique() > len(lists) / 2


def test_evaluation_is_long(pipeline: Pipeline) -> None:
    evaluation = pipeline.table("evaluation")
    assert list(evaluation) == ["model", "metric", "value"]
    found = {model: set(rows) for model, rows in evaluation.groupby("model")["metric"]}
    without_probabilities = METRICS - {"log_loss", "expected_calibration_error"}
    expected = dict.fromkeys((*MODELS, "movie_mean", "ceiling"), METRICS)
    expected |= dict.fromkeys(("random", "matrix_factorization"), without_probabilities)
    for name in (*MODELS, *LIST_BASELINES):
        expected[name] = expected.get(name, set()) | LIST_METRICS
    assert found == expected
    assert set(found) == {*MODELS, *BASELINES, *LIST_BASELINES}
    assert not evaluation.duplicated(["model", "metric"]).any()
    assert np.isfinite(evaluation["value"]).all()


@pytest.mark.parametrize(
    ("of_catalogue", "baselines", "metrics"),
    [(False, ("movie_mean", "matrix_factorization"), 5), (True, LIST_BASELINES, 3)],
    ids=["test rows", "catalogue"],
)
def test_comparison_holds_every_pair_once(
    pipeline: Pipeline, of_catalogue: bool, baselines: tuple[str, ...], metrics: int
) -> None:
    comparison, evaluation = pipeline.table("comparison"), pipeline.table("evaluation")
    assert list(comparison) == ["model_a", "model_b", "metric", "difference", "low", "high"]
    own = comparison[comparison["metric"].str.startswith("catalogue_") == of_catalogue]
    pairs = set(itertools.combinations((*MODELS, *baselines), 2))
    values = evaluation.set_index(["model", "metric"])["value"]
    assert {tuple(pair) for pair in own[["model_a", "model_b"]].to_numpy()} == pairs
    assert len(own) == len(pairs) * metrics
    for row in own.to_dict("records"):
        expected = values[row["model_a"], row["metric"]] - values[row["model_b"], row["metric"]]
        assert row["difference"] == pytest.approx(expected, abs=1e-9)
        assert row["low"] <= row["difference"] <= row["high"]


@pytest.mark.parametrize("model", MODELS)
def test_catalogue_metrics_can_be_recomputed_from_the_network(pipeline: Pipeline, model: str) -> None:
    train, test = pipeline.table("train_interactions"), pipeline.table("test_interactions")
    fields = pipeline.document("feature_map")["fields"]
    names = [field["name"] for field in fields]
    encoded = pd.concat([train, test])
    movies = encoded.drop_duplicates("movie_id").sort_values("movie_id")
    month = train.loc[train["timestamp"].idxmax()]  # the latest row that was trained on
    network, hits, positives = network_in(pipeline.bundle_path(model)), 0.0, 0
    for user, liked in test[test["label"] == 1].groupby("user_id")["movie_id"]:
        if user % 10:
            continue
        own = encoded[encoded["user_id"] == user].iloc[0]
        candidates = movies[~movies["movie_id"].isin(train.loc[train["user_id"] == user, "movie_id"])].copy()
        for field in fields:
            if field["side"] != "movie":
                candidates[field["name"]] = (own if field["side"] == "user" else month)[field["name"]]
        scores = probabilities(network, candidates[names].to_numpy().tolist())
        top = candidates["movie_id"].to_numpy()[np.argsort(-np.array(scores), kind="stable")[:10]]
        listed = pipeline.table(f"{model}_lists").query("user_id == @user").sort_values("rank")["movie_id"]
        assert sorted(listed) == sorted(top.tolist())
        hits, positives = hits + len(set(listed) & set(liked)) / len(liked), positives + 1
    assert positives > 10


def test_activity_groups_make_up_all_users(pipeline: Pipeline) -> None:
    by_activity = pipeline.table("evaluation_by_activity")
    values = pipeline.table("evaluation").set_index(["model", "metric"])["value"]
    assert set(by_activity["group"]) == {"cold", "light", "medium", "heavy"}
    own = by_activity[(by_activity["model"] == MODELS[0]) & (by_activity["metric"] == "ndcg_at_10")]
    mean = (own["value"].fillna(0) * own["users"]).sum() / own["users"].sum()
    assert mean == pytest.approx(values[MODELS[0], "ndcg_at_10"])


@pytest.mark.parametrize("model", MODELS)
def test_scores_are_those_that_were_measured(pipeline: Pipeline, model: str) -> None:
    scores, test = pipeline.table(f"{model}_scores")["score"], pipeline.table("test_interactions")
    found = pipeline.table("evaluation").set_index(["model", "metric"])["value"]
    assert len(scores) == len(test)
    likely = np.where(test["label"] == 1, scores, 1 - scores).astype(float)
    assert found[model, "log_loss"] == pytest.approx(-np.log(likely).mean(), rel=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_metrics_can_be_recomputed(pipeline: Pipeline, model: str) -> None:
    test = pipeline.table("test_interactions")
    fields = [field["name"] for field in pipeline.document("feature_map")["fields"]]
    scores = probabilities(network_in(pipeline.bundle_path(model)), test[fields].to_numpy().tolist())
    labels = test["label"].tolist()

    log_losses = [-math.log(score if label else 1 - score) for score, label in zip(scores, labels, strict=True)]
    by_user = defaultdict(list)
    for user, item, label, score in zip(test["user_id"], test["movie_id"], labels, scores, strict=True):
        by_user[user].append((-score, item, label))
    gains = []
    for rows in by_user.values():
        ranked = [label for _, _, label in sorted(rows)]
        ideal = sorted(ranked, reverse=True)
        dcg, best = (sum(label / math.log2(place + 2) for place, label in enumerate(x[:10])) for x in (ranked, ideal))
        if best:
            gains.append(dcg / best)

    evaluation = pipeline.table("evaluation")
    found = evaluation[evaluation["model"] == model].set_index("metric")["value"]
    assert found["log_loss"] == pytest.approx(sum(log_losses) / len(log_losses), rel=1e-5)
    assert found["ndcg_at_10"] == pytest.approx(sum(gains) / len(gains), rel=1e-5)


def test_training_and_test_rows_are_all_interactions(pipeline: Pipeline) -> None:
    train, test = pipeline.table("train_interactions"), pipeline.table("test_interactions")
    assert len(test) == 3000
    assert sorted([*train["row"], *test["row"]]) == list(range(15_000))


def test_a_second_champion_moves_everything_on(
    pipeline: Pipeline, promoted: Pipeline, env: pytest.MonkeyPatch, tracking: Tracking
) -> None:
    again = promoted
    env.setenv("PIPELINE_HOME", str(again.home))
    year, month = latest_month(again)
    for model, number in {**dict.fromkeys(MODELS, "1"), "autoint": "2"}.items():
        version = again.document(model)
        assert version["version"] == number
        assert (version["run_id"] != pipeline.document(model)["run_id"]) == (number == "2")
        name = f"{DATASET}-{model.replace('_', '-')}"
        for alias in ("challenger", "champion"):
            assert str(tracking.client.get_model_version_by_alias(name, alias).version) == number
        top = again.table(f"top10_{model}")
        assert set(top["model_version"]) == {number}
        live = get_recommendations(7, year, month, model, home=again.home)
        assert_same_list(live, top[top["user_id"] == 7])
    assert list(tracking.client.get_model_version(f"{DATASET}-autoint", "1").aliases) == []
    assert not list(again.tables.glob(".*"))


@pytest.mark.slow
def test_the_same_data_and_seeds_give_the_same_model(
    materialized: Pipeline, instance: dg.DagsterInstance, own_home: Path
) -> None:
    made = ("autoint", "autoint_scores", "autoint_metrics")
    again = Pipeline(own_home, materialized.cache, run_job(instance, retraining(RUN_CONFIG), *made))
    assert again.document("autoint")["version"] == "2"
    pd.testing.assert_frame_equal(materialized.table("autoint_metrics"), again.table("autoint_metrics"), atol=0.02)


def test_a_model_of_the_same_fingerprint_is_reused(
    materialized: Pipeline, instance: dg.DagsterInstance, env: pytest.MonkeyPatch, own_home: Path
) -> None:
    tracking = Tracking(raw_data=RawData.of(DATASET))
    runs = tracking.client.search_runs([tracking.experiment_id()])

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("nothing was to be trained")

    checkpoints = own_home / "training" / DATASET
    for name in ("autoint", "autoint_mlp"):
        (checkpoints / name / "0123456789abcdef").mkdir(parents=True)
    with env.context() as patch:
        patch.setattr(keras.Model, "fit", refuse)
        result = run_job(instance, RUN_CONFIG, "autoint")
    assert not (checkpoints / "autoint").exists()  # superseded
    assert list((checkpoints / "autoint_mlp").iterdir())
    again = Pipeline(own_home, materialized.cache, result)
    assert again.document("autoint") == materialized.document("autoint")
    assert len(tracking.client.search_runs([tracking.experiment_id()])) == len(runs)
    versions = tracking.client.search_model_versions(f"name = '{DATASET}-autoint'")
    assert [str(version.version) for version in versions] == ["1"]
    [made] = result.asset_materializations_for_node("autoint")
    [first] = materialized.result.asset_materializations_for_node("autoint")
    assert (made.metadata["reused"].value, first.metadata["reused"].value) == (True, False)
    kept = ("fingerprint", "val_loss", "train_loss", "epoch", "parameters", "loss_curve", "attention", "computed_by")
    for name in kept:
        assert made.metadata[name] == first.metadata[name]
    assert result.get_asset_check_evaluations()[0].passed

    other = {"ops": {"autoint": {"config": {"model": ARCHITECTURE, "training": {**TRAINING, "seed": 7}}}}}
    assert run_job(instance, {**RUN_CONFIG, **other}, "autoint").success
    assert Pipeline(own_home, materialized.cache, result).document("autoint")["version"] == "2"


def test_a_year_that_no_champion_knows_fails_at_once(
    own_home: Path, instance: dg.DagsterInstance, materialized: Pipeline
) -> None:
    config = {**RUN_CONFIG, "ops": {"top10_recommendations": {"config": {"year": 1999, "month": 1}}}}
    result = run_job(instance, config, "top10_recommendations", raise_on_error=False)
    assert not result.success
    expected = "autoint version 1: unknown rating_year 1999; the model was trained on 2000, 2001, 2002, 2003"
    assert failure_text(result, "top10_recommendations") == expected
    for model in MODELS:
        again = Pipeline(own_home, materialized.cache, result).table(f"top10_{model}")
        pd.testing.assert_frame_equal(again, materialized.table(f"top10_{model}"))


def test_bundle_holds_no_pickle(pipeline: Pipeline) -> None:
    for model in MODELS:
        with zipfile.ZipFile(pipeline.bundle_path(model)) as archive:
            assert sorted(archive.namelist()) == [
                "feature_map.json",
                "lists.json",
                "movies.parquet",
                "network.keras",
                "numbers.json",
                "users.parquet",
            ]
            network = zipfile.ZipFile(io.BytesIO(archive.read("network.keras")))
            assert sorted(network.namelist()) == ["config.json", "metadata.json", "model.weights.h5"]


@pytest.mark.slow
def test_a_training_that_could_not_be_registered_is_not_repeated(
    materialized: Pipeline, instance: dg.DagsterInstance, env: pytest.MonkeyPatch, own_home: Path
) -> None:
    begun: list[int] = []
    fit = keras.Model.fit

    def counted_fit(model: keras.Model, *arguments: Any, initial_epoch: int, **options: Any) -> Any:
        begun.append(initial_epoch)
        return fit(model, *arguments, initial_epoch=initial_epoch, **options)

    def refuse(*arguments: Any, **options: Any) -> None:
        raise dg.Failure("the registry is full", allow_retries=False)

    env.setattr(keras.Model, "fit", counted_fit)
    with env.context() as patch:
        patch.setattr("orchestration.tracking.tracked_run.TrackedRun.register", refuse)
        assert not run_job(instance, retraining(RUN_CONFIG), "autoint", raise_on_error=False).success
    assert run_job(instance, retraining(RUN_CONFIG), "autoint").success
    assert begun == [0, EPOCHS]
    run_id = Pipeline(own_home, materialized.cache, materialized.result).document("autoint")["run_id"]
    tracking = Tracking(raw_data=RawData.of(DATASET))
    losses = [
        {metric.step: metric.value for metric in tracking.client.get_metric_history(run, "val_loss")}
        for run in (run_id, materialized.document("autoint")["run_id"])
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == EPOCHS
    assert not list((own_home / "training").rglob("*.npz"))


@pytest.mark.parametrize(
    ("step", "asset"),
    [
        ("collaborative_features", "collaborative_features"),
        ("autoint", "autoint"),
        ("evaluate_autoint", "autoint_scores"),
        ("rank_catalogue_by_autoint", "autoint_lists"),
    ],
)
def test_pages_of_heavy_steps_say_where_they_were_computed(pipeline: Pipeline, step: str, asset: str) -> None:
    made = pipeline.result.asset_materializations_for_node(step)
    [page] = [each for each in made if each.asset_key and each.asset_key.to_user_string() == asset]
    assert page.metadata["computed_by"].value == "this machine"


def test_collaborative_features_are_fitted_once_for_all_recipes(pipeline: Pipeline) -> None:
    path = pipeline.tables / "collaborative_features.npz"
    [made] = pipeline.result.asset_materializations_for_node("collaborative_features")
    shown = {name: entry.value for name, entry in made.metadata.items()}
    assert shown["bytes"] == path.stat().st_size
    assert shown["stored"] == {path.name: digest(path.read_bytes())}
    assert shown["training_rows"] == len(pipeline.table("train_interactions"))
    keys = {part.key for name in COLLABORATIVE_MODELS for part in parts_of(signals_of(name))}
    assert shown["fitted_tables"] == 6 * len(keys)  # without each of five folds, and on all training rows
    assert shown["autoint_catalogue.folds"] == 5
    names = str(shown["autoint_catalogue.features"])
    assert names.startswith(
        "bayesian_rating (32), bayesian_like (32), ease_likes (128), ease_ratings (128), ease_values (128), "
    )
    assert shown["autoint_catalogue.columns"] == 2 * 32 + 3 * 128 + 6
    folds = CollaborativeFolds.from_bytes(path.read_bytes(), str(path))
    for name in COLLABORATIVE_MODELS:
        products = network_in(pipeline.bundle_path(name)).get_layer("signals")
        assert np.asarray(products.left).tolist() == folds.tables(signals_of(name)).users.tolist()


def signals_of(model: str) -> CollaborativeConfig:
    signals = RECIPES[model].signals
    assert signals
    return signals


def test_data_report_is_a_page_of_the_tables(pipeline: Pipeline) -> None:
    text = (pipeline.tables / "data_report.html").read_text("utf-8")
    assert f"Data report: {DATASET}" in text
    [made] = pipeline.result.asset_materializations_for_node("data_report")
    assert made.metadata["ratings"].value == len(pipeline.table("ratings"))
    assert made.metadata["rated_movies"].value == pipeline.table("ratings")["movie_id"].nunique()
    for picture in ("ratings_by_rating", "movies_by_genre", "ratings_by_month", "long_tail"):
        assert "data:image/svg+xml," in str(made.metadata[picture].value)


def test_pages_show_what_they_have_in_place(pipeline: Pipeline) -> None:
    # The UI hides Markdown of 1,000 characters or more behind a button. Tables of all figures may be long, and so may
    # heat maps of all layers and heads.
    may_be_long = {"all_metrics", "differences", "gates", "by_activity", "counts", "preview", "comparison_by_split"}
    may_be_long |= {"attention"}
    shown = {
        place: str(value.value)
        for place, value in pipeline.shown.items()
        if isinstance(value, dg.MarkdownMetadataValue)
    }
    drawn = [text for text in shown.values() if text.startswith("![")]
    assert len(drawn) >= len(MODELS) + 4
    assert {
        place: len(text)
        for place, text in shown.items()
        if len(text) >= 1000 and place[1].split(".")[-1] not in may_be_long
    } == {}


def test_every_stored_column_is_explained(pipeline: Pipeline) -> None:
    schemas = [value.value for (_, name), value in pipeline.shown.items() if name == "dagster/column_schema"]
    assert len(schemas) > 10
    assert {column.name for schema in schemas for column in schema.columns if not column.description} == set()
