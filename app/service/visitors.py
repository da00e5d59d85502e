"""Recommend to visitors without a history: ``POST /recommendations``.

What a visitor tells is neither logged nor kept, and is in the body, not in the address, where proxies would log it.
"""

from collections.abc import Mapping, Sequence

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.responses import Response

from app.service import problems
from app.service.answers import about_list, list_response
from app.service.bodies import queued_route
from app.service.middleware import FACTS
from app.service.schemas import VisitorRecommendations, VisitorRequest, id_field, visitor_request
from app.service.state import State, item_json
from ml.errors import NotFoundError
from ml.inference.scorer import Scorer
from ml.inference.visitors import Visitor
from ml.published.people import People
from ml.schema import Id

PATH = "/recommendations"
_ERRORS = problems.documented(400, 404, 408, 413, 422, 503)
_HEADERS = {"Cache-Control": "no-store"}


def add_visitors(app: FastAPI, state: State) -> None:
    """Add the route to the service.

    Args:
        app: the service.
        state: what it answers from.
    """
    body_type = visitor_request(state.config.max_k, id_field(lambda: state.movie_id_type))

    async def recommend_to_visitor(request: Request, body: body_type) -> Response:  # type: ignore[valid-type]
        """Return the best movies for a person without a history, by the movies that they like and who they are.

        They are scored like the most similar known users. Nothing about them is logged or stored.
        """
        params: VisitorRequest = body
        serving = state.serving
        model = serving.model(params.model or serving.snapshot.default).model
        _require_choices(serving.snapshot.people, params.features)
        _require_movies(model.live.recommender.scorer, params.liked)
        moment = (params.year, params.month) if params.year and params.month else model.lists.moment
        visitor = Visitor(params.features, tuple(params.liked))
        rows = model.live.visitors.recommend(visitor, *moment, params.k)
        about = about_list(model, moment, "live")
        request.scope[FACTS].update({name: about[name] for name in ("model", "model_version", "source")}, k=params.k)
        return list_response(about, item_json(rows), _HEADERS)

    app.router.add_api_route(
        PATH,
        recommend_to_visitor,
        methods=["POST"],
        response_model=VisitorRecommendations,
        responses=_ERRORS,
        summary="Get a list for a visitor without a history",
        route_class_override=queued_route(state.score_live),
    )


def _require_choices(people: People, features: Mapping[str, str | int]) -> None:
    """Raise RequestValidationError that names each feature or value that a visitor cannot tell, and the choices."""
    choices = people.visitor_choices
    known = f"expected one of {', '.join(choices)}" if choices else "users of this data set have none; expected liked"
    wrong = {
        name: f"{known}, found {name!r}"
        if name not in choices
        else f"expected one of {', '.join(map(repr, choices[name]))}, found {value!r}"
        for name, value in features.items()
        if value not in choices.get(name, ())
    }
    if wrong:
        raise RequestValidationError(
            [{"type": "value_error", "loc": ("body", "features", name), "msg": told} for name, told in wrong.items()]
        )


def _require_movies(scorer: Scorer, liked: Sequence[Id]) -> None:
    """Raise NotFoundError that names the field and the first movie that the model does not know."""
    try:
        scorer.indices("movie_id", liked)
    except NotFoundError as error:
        raise NotFoundError(f"liked: {error.args[0]}") from error
