"""Define the REST service: recommendations, scores and the published models."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import orjson
import pandas as pd
from fastapi import FastAPI, Path, Query, Request
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import RedirectResponse, Response
from upath import UPath

from app.service import access, problems
from app.service.access import RequiresKey
from app.service.answers import JSON, about_list, list_response
from app.service.arms import arm_of
from app.service.bodies import queued_route, refuse_elaborate
from app.service.config import ServingConfig
from app.service.headers import DOCS, DOCS_FILES, Protected
from app.service.keys import Keys
from app.service.limits import BoundedBody, max_body_bytes, max_visitor_bytes
from app.service.log import make_logger
from app.service.metrics import Metrics
from app.service.middleware import FACTS, KnownHosts, Observed
from app.service.problems import UnavailableError
from app.service.schemas import (
    Health,
    ListQuery,
    ModelAnswer,
    Models,
    Pair,
    Readiness,
    Recommendations,
    ScoreRequest,
    Scores,
    id_field,
    list_query,
    score_request,
)
from app.service.state import PreparedModel, State, item_json
from app.service.traces import Traced, Tracing
from app.service.visitors import PATH as VISITORS
from app.service.visitors import add_visitors
from ml.published.purposes import SENTENCES, Purpose
from ml.schema import Id

# FastAPI's own has users' ids (url.path), and a variable of the environment alone would switch it on; see Tracing.
_NO_TELEMETRY = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
_SCORE_ERRORS = problems.documented(400, 404, 408, 413, 422, 503)
_DESCRIPTION = """Recommendations and scores by the recommender's published models. Errors are
[RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) problem documents. Every response has an `X-Request-ID`:
the request's, if it sent one."""


def create_app(
    home: UPath,
    dataset: str | None,
    config: ServingConfig,
    logger: Any = None,
    keys: Keys | None = None,
    tracing: Tracing | None = None,
) -> FastAPI:
    """Create the service.

    Args:
        home: the pipeline's home.
        dataset: name of the data set; None for the only published one.
        config: settings of serving.yaml.
        logger: default: JSON lines on standard output.
        keys: the API keys that requests need; None: they need none.
        tracing: where spans are sent; None: nowhere.
    """
    logger, metrics = logger or make_logger(), Metrics()
    state = State(home, dataset, config, logger, metrics)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        state.start()
        watching = asyncio.create_task(keys.watch(logger)) if keys else None
        yield
        if watching:
            watching.cancel()
        await asyncio.to_thread(state.stop)
        if tracing:
            await asyncio.to_thread(tracing.stop)

    # Swagger UI's files come from the package, not from a CDN; Redoc would still fetch an image from one.
    app = FastAPIOffline(
        docs_url=DOCS,
        redoc_url=None,
        static_url=DOCS_FILES,
        telemetry=_NO_TELEMETRY,
        swagger_ui_parameters={"validatorUrl": None},  # it would send the schema to swagger.io
        title="Movie recommender",
        version="1",
        description=_DESCRIPTION,
        lifespan=lifespan,
    )
    app.state.recommender = state

    _add_middleware(app, state, keys, tracing)
    app.add_middleware(KnownHosts, hosts=config.hosts)
    app.add_middleware(Observed, logger=logger, metrics=metrics)
    app.add_middleware(Protected)
    problems.install(app)
    _add_recommendations(app, state, metrics)
    add_visitors(app, state)
    _add_scores(app, state)
    _add_operations(app, state, metrics, asks_for_keys=keys is not None)
    return app


def _add_middleware(app: FastAPI, state: State, keys: Keys | None, tracing: Tracing | None) -> None:
    """Add what a request passes before its body is read; the last one that is added comes first."""
    config = state.config

    def max_bytes(path: str) -> int:
        if path.endswith(VISITORS):
            return max_visitor_bytes(int(state.movie_id_type is str))
        return max_body_bytes(config.max_pairs, state.string_ids)

    app.add_middleware(BoundedBody, max_bytes=max_bytes)
    if tracing:
        app.add_middleware(Traced, tracing=tracing)
    if keys:
        app.add_middleware(RequiresKey, keys=keys, rate=config.rate, open_docs=config.open_docs)
        access.describe(app)


def _add_recommendations(app: FastAPI, state: State, metrics: Metrics) -> None:
    query_type, user_ids = list_query(state.config.max_k), id_field(lambda: state.user_id_type, in_address=True)

    @app.get(
        "/users/{user_id:path}/recommendations",  # an id may contain a slash
        response_model=Recommendations,
        responses=problems.documented(404, 422, 503),
        summary="Get a user's list",
    )
    async def recommendations(
        request: Request,
        user_id: Annotated[user_ids, Path(examples=[3, "A/12 blue"])],  # type: ignore[valid-type]
        query: Annotated[query_type, Query()],  # type: ignore[valid-type]
    ) -> Response:
        """Return the list from the nightly table if it has the month and the length; otherwise score it live."""
        params: ListQuery = query
        serving = state.serving
        experiment = state.config.experiment if params.model is None else None
        arm = arm_of(experiment, user_id) if experiment else None
        name = params.model or serving.snapshot.default
        prepared = state.arm_model(arm.model, serving) if arm else serving.model(name)
        lists = prepared.model.lists
        moment = (params.year, params.month) if params.year and params.month else lists.moment
        is_table = moment == lists.moment and params.k <= prepared.longest
        items = (
            prepared.items(user_id)[: params.k] if is_table else await _live(state, prepared, user_id, moment, params.k)
        )
        answer = {
            "user_id": user_id,
            **about_list(prepared.model, moment, "table" if is_table else "live"),
            "arm": {"experiment": experiment.name, "model": arm.model} if experiment and arm else None,
        }
        facts = ("user_id", "model", "model_version", "source")
        request.scope[FACTS].update({name: answer[name] for name in facts}, arm=arm.model if arm else None, k=params.k)
        if experiment and arm:
            request.scope[FACTS]["experiment"] = experiment.name
            metrics.assignments.labels(experiment.name, arm.model).inc()
        return list_response(answer, items)


async def _live(state: State, prepared: PreparedModel, user_id: Id, moment: tuple[int, int], k: int) -> list[bytes]:
    recommender = prepared.model.live.recommender
    found = state.score_live(lambda: recommender.recommend(user_id, *moment, k))
    return item_json(await asyncio.wrap_future(found))


def _add_scores(app: FastAPI, state: State) -> None:
    user_ids, movie_ids = id_field(lambda: state.user_id_type), id_field(lambda: state.movie_id_type)
    max_pairs = state.config.max_pairs
    body_type = score_request(max_pairs, user_ids, movie_ids)

    async def score(request: Request, body: body_type) -> Response:  # type: ignore[valid-type]
        """Return the scores of (user, movie) pairs in a month, in the order of the pairs."""
        params: ScoreRequest = body
        model = state.serving.model(params.model).model
        pairs = pd.DataFrame({name: [getattr(pair, name) for pair in params.pairs] for name in Pair.model_fields})
        scores = model.live.recommender.scorer.score_pairs(pairs)
        request.scope[FACTS].update(model=model.name, model_version=model.version, pairs=len(pairs), source="live")
        answer = {
            "model": model.name,
            "model_version": model.version,
            "score_is_chance": model.scores_are_chances,
            "scores": scores.round(6).tolist(),
        }
        return Response(orjson.dumps(answer), media_type=JSON)

    app.router.add_api_route(
        "/score",
        score,
        methods=["POST"],
        response_model=Scores,
        responses=_SCORE_ERRORS,
        summary="Score pairs",
        route_class_override=queued_route(state.score_live, lambda body: refuse_elaborate(body, max_pairs)),
    )


def _add_operations(app: FastAPI, state: State, metrics: Metrics, asks_for_keys: bool) -> None:
    @app.get("/models", responses=problems.documented(503), summary="List the published models")
    async def models() -> Models:
        """Return the champions: what each is for, and the version and month of its table."""
        serving = state.serving
        snapshot = serving.snapshot
        described = [_described(each, snapshot.purposes[name]) for name, each in serving.models.items()]
        return Models(dataset=snapshot.dataset, default=snapshot.default, models=described)

    @app.get("/", include_in_schema=False)
    async def root(request: Request) -> Response:
        """Redirect to the API documentation."""
        return RedirectResponse(request.scope.get("root_path", "") + DOCS)

    @app.get("/healthz", summary="Check that the process is alive")
    async def health() -> Health:
        """Return ok whenever the process responds."""
        return Health(status="ok")

    @app.get("/readyz", responses=problems.documented(503), summary="Check that requests can be answered")
    async def ready(request: Request) -> Readiness:
        """Return ready if tables and networks are loaded and all arms of the experiment are published."""
        is_stranger = asks_for_keys and "key" not in request.scope[FACTS]
        try:
            serving = state.serving
            state.require_arms(serving)
        except UnavailableError as error:
            raise UnavailableError("not ready; the log says why", error.retry_after) if is_stranger else error from None
        if is_stranger:
            return Readiness(status="ready", dataset=None, versions=None, last_refresh_error=None)
        versions = {name: model.model.version for name, model in serving.models.items()}
        return Readiness(
            status="ready", dataset=serving.snapshot.dataset, versions=versions, last_refresh_error=state.error or None
        )

    @app.get("/metrics", summary="Get metrics for Prometheus", response_class=Response)
    async def prometheus() -> Response:
        """Return requests, latencies, refreshes, versions and arms."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _described(prepared: PreparedModel, purpose: Purpose) -> ModelAnswer:
    model = prepared.model
    bundle = model.live.recommender.scorer.bundle
    return ModelAnswer(
        model=model.name,
        purpose=SENTENCES[purpose],
        model_version=model.version,
        year=model.lists.year,
        month=model.lists.month,
        users=len(model.lists.users),
        movies=len(bundle.movies),
        years=sorted(bundle.feature_map.years),
        months=sorted(bundle.feature_map.months),
        score_is_chance=model.scores_are_chances,
        calibration_error=model.calibration_error,
    )
