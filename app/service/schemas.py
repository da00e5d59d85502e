"""Define the service's requests and responses; its OpenAPI schema is generated from them."""

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
    model_validator,
)
from pydantic_core import PydanticKnownError

from app.service.limits import LONGEST_FEATURE, MOST_FEATURES, MOST_LIKED
from ml import schema

_DECIMAL = re.compile("0|-?[1-9][0-9]{0,17}")


def _decimal(value: Any) -> Any:
    """Refuse other spellings of whole numbers in addresses, such as 1_0, +3, 03 and 3.0, which Pydantic accepts."""
    if isinstance(value, str) and not _DECIMAL.fullmatch(value):
        raise PydanticKnownError("int_parsing")
    return value


_Decimal = BeforeValidator(_decimal)
_IdInAddress = Annotated[int, _Decimal, Field(ge=0, le=schema.LARGEST_ID)]
_IntegerId = Annotated[int, Field(strict=True, ge=0, le=schema.LARGEST_ID)]
_TextId = Annotated[str, Field(min_length=1, max_length=schema.LONGEST_ID)]
_TEXTS = TypeAdapter(_TextId)
_ADDRESSED, _GIVEN = TypeAdapter(_IdInAddress), TypeAdapter(_IntegerId)
_AnyId = Annotated[_IntegerId | _TextId, Field(description="An integer or a string, whichever the data set's ids are.")]
_MOST_KEYS = 20  # of an object in a request; more are refused unread
_YEARS, _MONTHS = Field(ge=1900, le=2999), Field(ge=1, le=12)
Year = Annotated[int, _Decimal, _YEARS]
Month = Annotated[int, _Decimal, _MONTHS]
_Count = Annotated[int, _Decimal]
ModelName = Annotated[str, Field(max_length=100)]


class ListQuery(BaseModel, extra="forbid"):
    """Parameters of a list."""

    model: ModelName | None = Field(
        default=None,
        description="Default: the model of the user's experiment arm; without an experiment, the default of /models.",
        examples=["autoint"],
    )
    k: _Count = Field(default=10, ge=1, description="Length of the list.")
    year: Year | None = Field(default=None, description="Year to recommend for; default: the table's year.")
    month: Month | None = Field(default=None, description="Month to recommend for; required with year.")

    @model_validator(mode="after")
    def _year_and_month_go_together(self) -> Self:
        _require_both_or_neither(self.year, self.month)
        return self


def _require_both_or_neither(year: int | None, month: int | None) -> None:
    if (year is None) != (month is None):
        raise ValueError("expected year and month together, or neither")


def id_field(kind: Callable[[], schema.IdType | None], in_address: bool = False) -> Any:
    """Return the type of an id in a request.

    Args:
        kind: returns the type that the data set's ids have now; None until the data set is loaded.
        in_address: whether it is part of an address, where an integer is text.
    """
    integers = _ADDRESSED if in_address else _GIVEN

    def validated(value: Any, either: ValidatorFunctionWrapHandler) -> Any:
        own = kind()
        return either(value) if own is None else (integers if own is int else _TEXTS).validate_python(value)

    return Annotated[_AnyId, WrapValidator(validated)]


def list_query(max_k: int) -> type[ListQuery]:
    """Return ListQuery with a limit on the list's length."""
    k: Any = (_Count, Field(default=10, ge=1, le=max_k, description="Length of the list."))
    return create_model("ListQuery", __base__=ListQuery, k=k)


class ArmAnswer(BaseModel):
    """The user's arm of an experiment."""

    experiment: str
    model: str


class Item(BaseModel):
    """A recommended movie."""

    rank: int = Field(description="Rank, from 1.")
    movie_id: int | str
    title: str
    genres: list[str]
    score: float = Field(description="Higher is better; see score_is_chance.")


class ListAnswer(BaseModel):
    """A list, the model that ranked it, and the month that it is for."""

    model: str
    model_version: str = Field(description="Version number in the model registry.")
    score_is_chance: bool = Field(
        description="Whether scores are calibrated probabilities of a like; if not, they are for ranking only."
    )
    year: int = Field(description="Year that the list is for.")
    month: int = Field(description="Month that the list is for.")
    source: Literal["table", "live"] = Field(description="table: the nightly table; live: scored for this request.")
    items: list[Item]


class Recommendations(ListAnswer):
    """A user's list."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "user_id": 3,
                    "model": "autoint_collaborative",
                    "model_version": "7",
                    "score_is_chance": True,
                    "year": 2003,
                    "month": 2,
                    "source": "table",
                    "arm": {"experiment": "like-or-find", "model": "autoint_collaborative"},
                    "items": [
                        {"rank": 1, "movie_id": 1, "title": "A Title", "genres": ["Drama", "War"], "score": 0.93}
                    ],
                }
            ]
        }
    )

    user_id: int | str
    arm: ArmAnswer | None = Field(description="None if the request named the model, or there is no experiment.")


class VisitorRecommendations(ListAnswer):
    """A visitor's list."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "autoint_catalogue",
                    "model_version": "7",
                    "score_is_chance": False,
                    "year": 2003,
                    "month": 2,
                    "source": "live",
                    "items": [
                        {"rank": 1, "movie_id": 7, "title": "A Title", "genres": ["Drama", "War"], "score": 0.93}
                    ],
                }
            ]
        }
    )


class _FewKeys(BaseModel, extra="forbid"):
    """An object of a request that refuses at once what would take seconds to refuse key by key."""

    @model_validator(mode="before")
    @classmethod
    def _has_few_keys(cls, value: Any) -> Any:
        if isinstance(value, dict) and len(value) > _MOST_KEYS:
            raise ValueError(f"expected the keys {', '.join(cls.model_fields)}, got {len(value):,} keys")
        return value


class Pair(_FewKeys):
    """A pair to score."""

    user_id: _AnyId
    movie_id: _AnyId
    year: Annotated[int, Field(strict=True), _YEARS]
    month: Annotated[int, Field(strict=True), _MONTHS]


class ScoreRequest(_FewKeys):
    """A batch of pairs for one model to score."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"model": "autoint", "pairs": [{"user_id": 3, "movie_id": 1, "year": 2003, "month": 2}]},
            ]
        },
    )

    model: ModelName
    pairs: list[Pair] = Field(min_length=1)


def score_request(max_pairs: int, user_ids: Any, movie_ids: Any) -> type[ScoreRequest]:
    """Return ScoreRequest with a limit on the batch's size.

    Args:
        max_pairs: the limit.
        user_ids: type of the users' ids, from ``id_field``.
        movie_ids: type of the movies' ids.
    """
    pair = create_model("Pair", __base__=Pair, user_id=(user_ids, ...), movie_id=(movie_ids, ...))
    # The first invalid pair ends the validation: thousands of errors would take seconds, while other requests wait.
    pairs: Any = (Annotated[list[pair], FailFast()], Field(min_length=1, max_length=max_pairs))
    return create_model("ScoreRequest", __base__=ScoreRequest, pairs=pairs)


def _has_few_features(value: Any) -> Any:
    """Refuse at once what would take long to refuse feature by feature."""
    if isinstance(value, dict) and len(value) > MOST_FEATURES:
        raise ValueError(f"expected at most {MOST_FEATURES} features, got {len(value):,}")
    return value


_FeatureText = Annotated[str, Field(max_length=LONGEST_FEATURE)]
_FeatureNumber = Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]


def _told(value: Any, either: ValidatorFunctionWrapHandler) -> Any:
    """Refuse a value under the feature's name; Pydantic would name both types that it may have."""
    try:
        return either(value)
    except ValidationError as error:
        raise ValueError(f"expected an integer or a string of at most {LONGEST_FEATURE} characters") from error


_Features = Annotated[
    dict[_FeatureText, Annotated[_FeatureNumber | _FeatureText, WrapValidator(_told)]],
    BeforeValidator(_has_few_features),
    Field(
        max_length=MOST_FEATURES,
        description="Values of the data set's features of users, such as gender and age; of those with few values.",
    ),
]
_LIKED = Field(
    max_length=MOST_LIKED,
    description="Ids of movies that the visitor likes, which are not listed; duplicates count once.",
)


class VisitorRequest(_FewKeys):
    """What a person without a history tells; at least one of liked and features."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"liked": [1, 50], "features": {"gender": "F", "age": 25}, "k": 10},
                {"liked": [1], "model": "autoint", "year": 2003, "month": 2},
                {"liked": ["A/12 blue"], "features": {"country": "NZ"}},
            ]
        },
    )

    liked: Annotated[list[_AnyId], _LIKED] = []
    features: _Features = {}
    model: ModelName | None = Field(default=None, description="Default: the default of /models.")
    k: int = Field(default=10, strict=True, ge=1, description="Length of the list.")
    year: Annotated[int, Field(strict=True), _YEARS] | None = Field(
        default=None, description="Year to recommend for; default: the table's year."
    )
    month: Annotated[int, Field(strict=True), _MONTHS] | None = Field(
        default=None, description="Month to recommend for; required with year."
    )

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        _require_both_or_neither(self.year, self.month)
        if not self.liked and not self.features:
            raise ValueError("expected at least one of liked and features")
        return self


def visitor_request(max_k: int, movie_ids: Any) -> type[VisitorRequest]:
    """Return VisitorRequest with a limit on the list's length.

    Args:
        max_k: the limit.
        movie_ids: type of the movies' ids, from ``id_field``.
    """
    liked: Any = (Annotated[list[movie_ids], FailFast(), _LIKED], [])
    k: Any = (int, Field(default=10, strict=True, ge=1, le=max_k, description="Length of the list."))
    return create_model("VisitorRequest", __base__=VisitorRequest, liked=liked, k=k)


class Scores(BaseModel):
    """Scores in the order of the pairs."""

    model: str
    model_version: str
    score_is_chance: bool
    scores: list[float]


class ModelAnswer(BaseModel):
    """A published model."""

    model: str
    purpose: str = Field(description="What it is best for, among the published models.")
    model_version: str
    year: int = Field(description="Year of its table.")
    month: int = Field(description="Month of its table.")
    users: int = Field(description="Number of users with a list in its table.")
    movies: int = Field(description="Number of movies that it can recommend.")
    years: list[int] = Field(description="Years that it can recommend for.")
    months: list[int] = Field(description="Months that it can recommend for.")
    score_is_chance: bool = Field(description="Whether scores are calibrated probabilities of a like.")
    calibration_error: float | None = Field(description="Expected calibration error of this version on the test rows.")


class Models(BaseModel):
    """All published models of the data set."""

    dataset: str
    default: str = Field(description="The model that answers if neither request nor experiment names one.")
    models: list[ModelAnswer]


class Health(BaseModel):
    """The process is alive."""

    status: Literal["ok"]


class Readiness(BaseModel):
    """Tables and networks are loaded."""

    status: Literal["ready"]
    dataset: str | None = Field(description="Null, as all below, for a request without the API key that others need.")
    versions: dict[str, str] | None = Field(description="Version number by model.")
    last_refresh_error: str | None = Field(description="Why the last poll for a new champion failed, if it did.")


class FieldError(BaseModel):
    """What is wrong with one field."""

    location: str
    message: str


class Problem(BaseModel):
    """A problem document (RFC 9457)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "about:blank",
                    "title": "Not Found",
                    "status": 404,
                    "detail": "unknown user_id 99999; there are lists of 6,040 users from 1 to 6040",
                    "instance": "/users/99999/recommendations",
                }
            ]
        }
    )

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: list[FieldError] | None = None
