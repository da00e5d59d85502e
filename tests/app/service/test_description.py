"""The service does what its OpenAPI description says, by requests that schemathesis makes from it."""

from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks
from upath import UPath

from app.service.api import create_app
from tests.app.service.conftest import CONFIG, Log

# Not among them: that what fits the description is accepted. It cannot say that year and month go together.
CHECKS = [
    not_a_server_error,
    checks.content_type_conformance,
    checks.negative_data_rejection,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.status_code_conformance,
    checks.unsupported_method,
]


@pytest.fixture(scope="session")
def app(published_home: Path) -> FastAPI:
    made = create_app(UPath(published_home), None, CONFIG, Log().logger)
    made.state.recommender.refresh()
    return made


@pytest.fixture(scope="session")
def description(app: FastAPI) -> Any:
    return schemathesis.openapi.from_asgi("/openapi.json", app)


OPERATIONS = [
    ("/users/{user_id}/recommendations", "GET"),
    ("/score", "POST"),
    ("/models", "GET"),
    ("/healthz", "GET"),
    ("/readyz", "GET"),
    ("/metrics", "GET"),
]


REQUESTS = [(*operation, GenerationMode.POSITIVE) for operation in OPERATIONS]
REQUESTS += [(*operation, GenerationMode.NEGATIVE) for operation in OPERATIONS[:2]]  # the others take nothing


@pytest.mark.parametrize(("path", "method", "mode"), REQUESTS)
def test_answers_are_as_described(path: str, method: str, mode: GenerationMode, description: Any) -> None:
    operation = description[path][method]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=20, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def check(case: Any) -> None:
        case.call_and_validate(checks=CHECKS)

    check()


def test_every_operation_has_a_summary_and_every_error_is_a_problem(app: FastAPI) -> None:
    paths = app.openapi()["paths"]
    assert [(path, method.upper()) for path in paths for method in paths[path]] == OPERATIONS
    for operations in paths.values():
        for operation in operations.values():
            assert operation["summary"]
            for status, answer in operation["responses"].items():
                assert status < "400" or list(answer["content"]) == ["application/problem+json"]


def test_examples_fit_their_schemas(app: FastAPI) -> None:
    import jsonschema

    description = app.openapi()
    for name, own in description["components"]["schemas"].items():
        for example in own.get("examples", []):
            whole = {**description["components"]["schemas"][name], "components": description["components"]}
            jsonschema.validate(example, whole)
    with_examples = [name for name, own in description["components"]["schemas"].items() if own.get("examples")]
    assert {"Recommendations", "ScoreRequest"} <= set(with_examples)
