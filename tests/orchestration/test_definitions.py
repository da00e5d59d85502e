import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
import yaml

from ml.errors import DataError
from orchestration.assets.monthly import MONTHS
from orchestration.config.data_sets import DATA_SETS, register
from orchestration.config.recipes_in_force import RESERVED, names_of, recipes_in_force
from orchestration.config.settings import PROJECT_ROOT
from orchestration.definitions import build_definitions
from tests.orchestration.recipes import COLLABORATIVE_MODELS, MODELS, PAPER_MODELS

GROUPS = {
    "raw": {
        "raw_users", "raw_movies", "raw_ratings",
        "ingestion_batches", "ingested_users", "ingested_movies", "ingested_ratings",
    },
    "tables": {"users", "movies", "ratings", "interactions"},
    "report": {"data_report"},
    "features": {
        "feature_map", "encoded_interactions", "train_interactions", "test_interactions", "collaborative_features"
    },
    "models": set(MODELS),
    "evaluation": {
        "baseline_scores", "baseline_metrics", "model_comparison",
        *(f"{model}_{what}" for model in MODELS for what in ("scores", "metrics")),
    },
    "catalogue": {f"{model}_{what}" for model in ("baseline", *MODELS) for what in ("lists", "list_metrics")},
    "recommendations": {"promotion", "top10_recommendations", "monthly_top10"},
    "operations": {"run_plan", "pruned_versions"},
    "monitoring": {"data_drift"},
}  # fmt: skip
PAPER = {
    "paper_comparison", *PAPER_MODELS, *(f"{model}_{what}" for model in PAPER_MODELS for what in ("scores", "metrics"))
}  # fmt: skip
_SPLIT, _INGESTED = ["train_interactions", "test_interactions"], ["raw_users", "raw_movies"]
_OF_MODELS = [f"{model}{part}" for model in MODELS for part in ("", "_scores", "_metrics", "_lists", "_list_metrics")]
INPUTS: dict[str, list[str]] = {
    **{key: [] for key in ("raw_users", "raw_movies", "raw_ratings", "run_plan")},
    **dict.fromkeys(("ingestion_batches", "ingested_users", "ingested_movies", "ingested_ratings"), _INGESTED),
    **{kind: [f"raw_{kind}", f"ingested_{kind}"] for kind in ("users", "movies", "ratings")},
    **{key: ["users", "movies", "ratings"] for key in ("interactions", "data_report")},
    "feature_map": [f"{how}_{kind}" for how in ("raw", "ingested") for kind in ("users", "movies", "ratings")],
    "encoded_interactions": ["interactions", "users", "movies", "ratings", "feature_map"],
    **{key: ["encoded_interactions"] for key in _SPLIT},
    "collaborative_features": ["train_interactions", "feature_map", "users", "movies"],
    **{key: ["train_interactions", "feature_map", "users", "movies"] for key in (*MODELS, *PAPER_MODELS)},
    **{key: ["collaborative_features", "train_interactions", "feature_map", "users", "movies"]
       for key in COLLABORATIVE_MODELS},
    "baseline_scores": _SPLIT,
    "baseline_metrics": ["test_interactions", "baseline_scores"],
    **{f"{model}_{part}": [model, "test_interactions", "baseline_metrics"]
       for model in (*MODELS, *PAPER_MODELS) for part in ("scores", "metrics")},
    **{key: ["movies", *_SPLIT, "feature_map"] for key in ("baseline_lists", "baseline_list_metrics")},
    **{f"{model}_{part}": [model, *_SPLIT] for model in MODELS for part in ("lists", "list_metrics")},
    "model_comparison": [
        *_SPLIT, "baseline_metrics", "baseline_scores", "baseline_lists", "baseline_list_metrics", *_OF_MODELS
    ],
    "paper_comparison": [
        "baseline_metrics", *(f"{model}{part}" for model in PAPER_MODELS for part in ("", "_metrics"))
    ],
    "promotion": [  # only models whose evaluation passed its checks are judged
        "users", "movies", "ratings", "feature_map", *_SPLIT, "baseline_scores", "baseline_lists", "model_comparison",
        *_OF_MODELS,
    ],
    "top10_recommendations": ["ratings", "promotion"],
    "monthly_top10": ["ratings", "top10_recommendations"],
    "pruned_versions": ["top10_recommendations"],
    "data_drift": ["users", "movies", "ratings", "ingestion_batches", "feature_map"],
}  # fmt: skip
DRIFT = {"counts", "positive_share", "population_stability", "unknown_codes"}
CHECKS = {
    "raw_users": {"row_count", "unique_keys"},
    "raw_movies": {"row_count", "unique_keys"},
    "raw_ratings": {"row_count", "unique_keys"},
    "users": {"complete"},
    "movies": {"complete"},
    "ratings": {"complete"},
    "interactions": {"known_keys", "both_labels"},
    "ingestion_batches": {"all_taken_in"},
    "feature_map": {"cardinalities", "indices_kept"},
    "encoded_interactions": {"row_count", "complete", "indices_in_range"},
    "train_interactions": {"whole_split", "both_labels"},
    **{model: {"losses_fall"} for model in (*MODELS, *PAPER_MODELS)},
    **{f"{model}_metrics": {"not_below_random"} for model in (*MODELS, *PAPER_MODELS)},
    "data_drift": DRIFT,
    "run_plan": {"on_time"},
    "model_comparison": {"metric_drops"},
    "top10_recommendations": {
        "on_time",
        *(f"{check}_{model}" for check in ("top_lists", "promoted", "stable") for model in MODELS),
    },
}
WARNINGS = {
    "all_taken_in", "metric_drops", "on_time", *DRIFT,
    *(f"{check}_{model}" for check in ("promoted", "stable") for model in MODELS),
}  # fmt: skip
BASELINES = {"random", "popularity", "movie_mean", "matrix_factorization", "implicit_als", "ease"}
MONTHLY = "monthly_top10"  # shown as an asset, but made by an op for months that a person chooses
NIGHTLY = set.union(*GROUPS.values()) - {MONTHLY}
PUBLISHING = ("promotion", "top10_recommendations", "pruned_versions")
SLOW_IMPORTS = {"tensorflow", "keras", "mlflow"}


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    return build_definitions()


@pytest.fixture(scope="module")
def with_paper() -> dg.Definitions:
    return build_definitions(with_paper=True)


def test_assets_by_group(definitions: dg.Definitions) -> None:
    groups: dict[str, set[str]] = {}
    for node in definitions.resolve_asset_graph().asset_nodes:
        groups.setdefault(node.group_name or "", set()).add(node.key.to_user_string())
    assert groups == {**GROUPS, "paper": PAPER}


def test_no_recipe_can_have_the_name_of_anything_else(with_paper: dg.Definitions) -> None:
    """If this fails, add the new name to RESERVED or to the names of a recipe."""
    nodes = with_paper.resolve_asset_graph().asset_nodes
    jobs = [job for job in with_paper.get_repository_def().get_all_jobs() if not job.name.startswith("__")]
    names = {node.key.to_user_string() for node in nodes} | {node.group_name or "" for node in nodes}
    names |= {name for job in jobs for name in (job.name, *(node.name for node in job.all_node_defs))}
    of_recipes = {name for recipe in (*MODELS, *PAPER_MODELS) for name in names_of(recipe)}
    assert {*names} - of_recipes <= RESERVED
    assert RESERVED - names <= {*BASELINES, "default"}
    assert of_recipes.isdisjoint(RESERVED)


@pytest.mark.parametrize(
    ("recipes", "told"),
    [
        (["users"], "recipes.users: its name would give something the name users, which the pipeline has already"),
        (["movies"], "recipes.movies: .* which the pipeline has"),
        (["paper"], "recipes.paper: .* which the pipeline has"),
        (["default"], "recipes.default: .* which the pipeline has"),
        (["baseline"], "recipes.baseline: .* the name baseline_scores, which the pipeline has"),
        (["mine", "mine_lists"], "recipes.mine_lists: .* the name mine_lists, which the recipe mine has"),
    ],
)
def test_a_recipe_named_like_something_else_is_refused(
    recipes: list[str], told: str, tmp_path: Path, env: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "recipes.yaml"
    path.write_text(yaml.safe_dump({"recipes": {n: {"description": "x", "architecture": "autoint"} for n in recipes}}))
    env.setenv("RECIPES_YAML", str(path))
    with pytest.raises(DataError, match=f"^{path}, {told}"):
        recipes_in_force()


def test_every_asset_has_owner_and_description(definitions: dg.Definitions) -> None:
    for node in definitions.resolve_asset_graph().asset_nodes:
        assert node.owners == ["team:recommendations"], node.key
        assert node.description, node.key
        assert node.kinds, node.key


def test_every_check_says_what_holds(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    said = {key.name: graph.get_check_spec(key).description or "" for key in graph.asset_check_keys}
    assert said["unique_keys"] == "Check that no two rows have the same key."
    assert said["top_lists_autoint"].startswith("autoint: Check that every user has one complete list")
    assert [name for name, text in said.items() if not text.endswith(".")] == []


def test_materializing_all_assets_of_a_data_set_is_the_nightly_job(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    executable = {key.to_user_string() for key in graph.executable_asset_keys}
    assert executable == NIGHTLY  # neither the paper's models nor months
    assert {graph.get(dg.AssetKey(name)).partitions_def for name in executable} == {DATA_SETS}
    by_month = dg.MultiPartitionsDefinition({"data_set": DATA_SETS, "month": MONTHS})
    assert graph.get(dg.AssetKey(MONTHLY)).partitions_def == by_month


def test_no_launch_can_choose_another_data_set_than_its_partition(definitions: dg.Definitions) -> None:
    for job in ("recommender_pipeline", "temporal_evaluation", "monthly_recommendations"):
        assert definitions.resolve_job_def(job).partitions_def == DATA_SETS
        with pytest.raises(dg.DagsterInvalidConfigError, match="unexpected config entry"):
            dg.validate_run_config(
                definitions.resolve_job_def(job), {"resources": {"raw_data": {"config": {"source": "synthetic"}}}}
            )


def test_checks_block_but_for_those_that_warn(with_paper: dg.Definitions) -> None:
    graph = with_paper.resolve_asset_graph()
    checks: dict[str, set[str]] = {}
    for key in graph.asset_check_keys:
        checks.setdefault(key.asset_key.to_user_string(), set()).add(key.name)
        assert graph.get_check_spec(key).blocking != (key.name in WARNINGS), key
        assert graph.get_check_spec(key).partitions_def == DATA_SETS, key
    assert checks == CHECKS


def test_inputs_of_every_asset(with_paper: dg.Definitions) -> None:
    nodes = with_paper.resolve_asset_graph().asset_nodes
    inputs = {node.key.to_user_string(): sorted(key.to_user_string() for key in node.parent_keys) for node in nodes}
    assert inputs == {name: sorted(expected) for name, expected in INPUTS.items()}


def test_recipes_with_moments_read_the_times_of_all_ratings(tmp_path: Path, env: pytest.MonkeyPatch) -> None:
    path = tmp_path / "recipes.yaml"
    plain = {"description": "x", "architecture": "autoint"}
    path.write_text(yaml.safe_dump({"recipes": {"a": plain, "b": {**plain, "moments": ["rating_hour"]}}}))
    env.setenv("RECIPES_YAML", str(path))
    graph = build_definitions().resolve_asset_graph()
    reading = {key.to_user_string() for key in graph.get(dg.AssetKey("encoded_interactions")).child_keys}
    assert reading == {"train_interactions", "test_interactions", "b", "b_scores", "b_metrics"}


def test_jobs(definitions: dg.Definitions, with_paper: dg.Definitions) -> None:
    own = {job.name for job in definitions.resolve_all_job_defs() if not job.name.startswith("__")}
    jobs = {job.name: job for job in with_paper.resolve_all_job_defs() if not job.name.startswith("__")}
    assert own == set(jobs) - {"paper_protocol"}
    assets = {name: {key.to_user_string() for key in job.asset_layer.selected_asset_keys} for name, job in jobs.items()}
    assert assets == {
        "recommender_pipeline": NIGHTLY,
        "temporal_evaluation": NIGHTLY - set(PUBLISHING),
        "monthly_recommendations": set(),
        "paper_protocol": PAPER  # its recipes have no collaborative features
        | GROUPS["raw"] | GROUPS["tables"] | GROUPS["features"] - {"collaborative_features"}
        | {"baseline_scores", "baseline_metrics"},
    }  # fmt: skip


def test_schedule_runs_every_night_by_default(definitions: dg.Definitions) -> None:
    schedules = list(definitions.schedules or [])
    assert [schedule.name for schedule in schedules] == ["nightly"]
    nightly = definitions.resolve_schedule_def("nightly")
    assert nightly.job_name == "recommender_pipeline"
    assert nightly.default_status == dg.DefaultScheduleStatus.RUNNING
    assert (nightly.cron_schedule, nightly.execution_timezone) == ("0 3 * * *", "UTC")


def test_schedule_asks_for_what_is_to_be_made_and_says_why(
    definitions: dg.Definitions, small_raw_directory: Path, tmp_path: Path, env: pytest.MonkeyPatch
) -> None:
    env.setenv("MOVIELENS_DIR", str(small_raw_directory))
    repository = definitions.get_repository_def()
    with (
        dg.DagsterInstance.local_temp(str(tmp_path)) as instance,
        dg.build_schedule_context(instance, datetime(2003, 3, 1, 3, tzinfo=UTC), repository_def=repository) as context,
    ):
        [request] = definitions.resolve_schedule_def("nightly").evaluate_tick(context).run_requests or []
    name = small_raw_directory.name
    # hence one run, however many daemons evaluate the tick
    assert request.run_key == f"2003-03-01T03:00:00+00:00 {name}"
    assert request.partition_key == name
    assert {key.to_user_string() for key in request.asset_selection or ()} == NIGHTLY
    config = request.run_config["ops"]["run_plan"]["config"]
    assert config == {"reasons": dict.fromkeys(config["reasons"], "never built"), "up_to_date": [], "checks": {}}
    assert set(config["reasons"]) == NIGHTLY - {"run_plan"}


def test_schedule_runs_every_data_set_that_is_switched_on(
    definitions: dg.Definitions, small_raw_directory: Path, tmp_path: Path, env: pytest.MonkeyPatch
) -> None:
    """One that cannot be read does not hold up the others."""
    name = register(str(small_raw_directory))
    (tmp_path / "gone").mkdir()
    env.setenv("SCHEDULE_DATASETS", f"{register(str(tmp_path / 'gone'))},{name},synthetic-small")
    repository = definitions.get_repository_def()
    with (
        dg.DagsterInstance.local_temp(str(tmp_path)) as instance,
        dg.build_schedule_context(instance, datetime(2003, 3, 1, tzinfo=UTC), repository_def=repository) as context,
    ):
        requests = definitions.resolve_schedule_def("nightly").evaluate_tick(context).run_requests or []
        offered = instance.get_dynamic_partitions("datasets")
    assert [request.partition_key for request in requests] == [name, "synthetic-small"]
    assert len({request.run_key for request in requests}) == 2
    assert offered == [name, "synthetic-small"]


def test_sensors_watch_by_default_but_for_that_of_arrivals(definitions: dg.Definitions) -> None:
    sensors = {sensor.name: sensor.default_status for sensor in definitions.sensors or ()}
    watching = ("dead_runs", "alert_on_failure", "alert_on_recovery", "deadlines")
    running = dict.fromkeys(watching, dg.DefaultSensorStatus.RUNNING)
    assert sensors == {**running, "arrivals": dg.DefaultSensorStatus.STOPPED}


def test_a_schedule_that_is_none_is_told_by_its_variable(env: pytest.MonkeyPatch) -> None:
    env.setenv("SCHEDULE_CRON", "nightly")
    with pytest.raises(DataError, match="SCHEDULE_CRON='nightly': expected five cron fields"):
        build_definitions()


def test_schedule_is_set_by_the_environment(env: pytest.MonkeyPatch) -> None:
    env.setenv("SCHEDULE_CRON", "30 1 * * 1")
    env.setenv("SCHEDULE_TIMEZONE", "Europe/Vienna")
    nightly = build_definitions().resolve_schedule_def("nightly")
    assert (nightly.cron_schedule, nightly.execution_timezone) == ("30 1 * * 1", "Europe/Vienna")


# Some modules of tracking import MLflow, and the command line's starts.
IMPORT = """
import importlib, os, pkgutil, sys, orchestration

for module in pkgutil.walk_packages(orchestration.__path__, "orchestration."):
    if not module.name.startswith(("orchestration.__main__", "orchestration.preloaded", "orchestration.tracking.")):
        importlib.import_module(module.name)
for name in sys.argv[1:]:
    del os.environ[name]
orchestration.definitions.defs().resolve_asset_graph()
print(*{name.partition(".")[0] for name in sys.modules})
"""


def test_importing_reads_neither_environment_nor_yaml_and_leaves_slow_packages_alone() -> None:
    """A file that cannot be read is named when it is needed, by the command that needs it."""
    unusable = {f"{name}_YAML": "nowhere.yaml" for name in ("RECIPES", "MLFLOW", "MONITORING", "SERVING")}
    unusable["DAGSTER_PORT"] = "no port"
    done = subprocess.run(
        [sys.executable, "-c", IMPORT, *unusable],
        cwd=PROJECT_ROOT,
        env={**os.environ, **unusable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "dagster" in done.stdout.split()
    assert not SLOW_IMPORTS & set(done.stdout.split())


@pytest.mark.slow
def test_workspace_loads_from_elsewhere(tmp_path: Path) -> None:
    home = tmp_path / "dagster"
    home.mkdir()
    command = [sys.executable, "-m", "dagster", "definitions", "validate", "-w", str(PROJECT_ROOT / "workspace.yaml")]
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    finished = subprocess.run(
        command, cwd=tmp_path, env={**variables, "DAGSTER_HOME": str(home)}, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert "movie_recommender" in finished.stdout + finished.stderr
