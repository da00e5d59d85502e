import re
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import pytest

from orchestration.config.launch_config import launch_settings
from orchestration.definitions import build_definitions
from tests.orchestration.recipes import RECIPES

SPLIT, TABLES, MODEL = "split_interactions", "top10_recommendations", "autoint"


@pytest.fixture(scope="module")
def job() -> dg.JobDefinition:
    return build_definitions().resolve_job_def("recommender_pipeline")


def op(name: str, **config: Any) -> dict[str, Any]:
    return {"ops": {name: {"config": config}}}


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (op(TABLES, method="by_hand"), "not in enum type Literal.*got by_hand"),
        (op(MODEL, training={"schedule": "linear"}), "not in enum type Literal.*got linear"),
        (op(MODEL, training={"seeds": 1}), 'Received unexpected config entry "seeds"'),
        (op(MODEL, training={"epochs": "many"}), "ops:autoint:config:training:epochs"),
        (op(MODEL, retrain=3), "ops:autoint:config:retrain"),
        (op(SPLIT, seed=1.5), "ops:split_interactions:config:seed"),
        ({"resources": {"raw_data": {"config": {"split": "by_user"}}}}, 'Received unexpected config entry "split"'),
    ],
)
def test_the_launchpad_refuses(job: dg.JobDefinition, config: Mapping[str, Any], reason: str) -> None:
    with pytest.raises(dg.DagsterInvalidConfigError, match=reason):
        dg.validate_run_config(job, config)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"training": {"epochs": 0}}, "epochs = 0: Input should be greater than or equal to 1"),
        (
            {"training": {"batch_size": 0, "learning_rate": -1.0}},
            "batch_size = 0: .* 1; learning_rate = -1.0: Input should be greater than 0",
        ),
        ({"model": {"embedding_dropout": 1.0}}, "embedding_dropout = 1.0: Input should be less than 1"),
    ],
)
def test_a_number_out_of_range_fails_its_step_once_with_the_reason(config: dict[str, Any], reason: str) -> None:
    settings = launch_settings("autoint", RECIPES["autoint"])

    @dg.asset(retry_policy=dg.RetryPolicy(max_retries=2))
    def model(config: settings) -> None:  # type: ignore[valid-type]
        raise AssertionError("began")

    result = dg.materialize([model], run_config=op("model", **config), raise_on_error=False)
    (failed,) = [event for event in result.all_events if event.is_step_failure]
    assert not any(event.is_step_up_for_retry for event in result.all_events)
    assert failed.step_failure_data.user_failure_data
    assert re.search(f"^Launch configuration: {reason}", str(failed.step_failure_data.user_failure_data.description))


def test_every_setting_of_a_launch_is_described(job: dg.JobDefinition) -> None:
    fields = {node.name: node.definition.config_schema.as_field() for node in job.graph.nodes}
    assert {SPLIT, TABLES, MODEL} <= fields.keys()
    undescribed = [path for name, field in fields.items() for path in undescribed_below(name, field)]
    assert undescribed == []


def undescribed_below(path: str, field: dg.Field) -> Iterator[str]:
    for name, inner in getattr(field.config_type, "fields", {}).items():
        if not inner.description:
            yield f"{path}.{name}"
        yield from undescribed_below(f"{path}.{name}", inner)
