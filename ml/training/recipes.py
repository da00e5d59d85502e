"""Recipes: features, architecture and settings of each model, as data, from one validated file."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    SerializeAsAny,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ml import schema
from ml.errors import DataError
from ml.features.collaborative import CollaborativeConfig
from ml.features.feature_map import FeatureMap
from ml.features.negatives import NegativesConfig
from ml.files import digest
from ml.models.config import ARCHITECTURES, ArchitectureConfig, AutoIntMultitaskConfig, SASRecConfig
from ml.settings_file import read_settings
from ml.training.config import TrainingConfig, WarmStartConfig
from ml.training.search import PARTS, SearchRange, Space, changed, checked_space

Protocol = Literal["reference", "paper"]
REFERENCE: Protocol = "reference"
PAPER: Protocol = "paper"
PAIR_FEATURES = ("user_id", "movie_id")
_NAME = r"[a-z][a-z0-9_]{0,63}"  # part of file names, asset names and MLflow's names

NOT_LEARNED = ("description", "enabled")  # settings that change no result


class Recipe(BaseModel, frozen=True, extra="forbid"):
    """All settings that decide what a model learns from a data set. Frozen; an unknown key is an error."""

    description: str = Field(min_length=1, description="One sentence for the asset graph.")
    enabled: bool = Field(default=True, description="Whether it is trained, evaluated and published.")
    protocol: Protocol = Field(
        default=REFERENCE, description="reference: part of every run; paper: trained by make paper only."
    )
    architecture: str = Field(description=f"One of {', '.join(ARCHITECTURES)}.")
    fields: tuple[str, ...] = Field(default=(), description="Features; if empty, all that the data set has.")
    without: tuple[str, ...] = Field(default=(), description="Features of the data set that are not used.")
    multivalued: tuple[str, ...] = Field(default=(), description="Multi-valued features, such as genres.")
    numbers: tuple[str, ...] = Field(default=(), description="Numeric features, such as timestamp.")
    moments: tuple[str, ...] = Field(
        default=(), description=f"Features of a rating's moment, beside the others: {', '.join(schema.MOMENT_NAMES)}."
    )
    signals: CollaborativeConfig | None = Field(default=None, description="Collaborative features; none if empty.")
    negatives: NegativesConfig | None = Field(
        default=None, description="Learn to tell likes from sampled unrated movies, not from dislikes; none if empty."
    )
    pretrained: dict[Literal["movie_id"], Literal["word2vec", "sasrec"]] = Field(
        default={},
        description="Feature whose embedding starts with vectors learned from users' histories: word2vec, which "
        "needs gensim, or sasrec.",
    )
    model: SerializeAsAny[ArchitectureConfig] = Field(description="The architecture's settings.")
    training: TrainingConfig = Field(default=TrainingConfig(), description="How the network is trained.")
    warm_start: WarmStartConfig | None = Field(
        default=None, description="Continue from the champion's weights when new rows came; none: always from scratch."
    )
    diversity: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="How much the movies of a list should differ by genre: 0 lists the best movies; a larger value "
        "exchanges some of them for good movies of other genres.",
    )
    search: dict[str, SearchRange] = Field(
        default={}, description="Search space of make tune, by dotted name of a setting of model or training."
    )

    @field_validator("numbers", "moments")
    @classmethod
    def _names_are_known(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        known = schema.NUMBERS if info.field_name == "numbers" else schema.MOMENT_NAMES
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"unknown {', '.join(unknown)}; expected some of {', '.join(known)}")
        return names

    @field_validator("fields", "without", "multivalued", "numbers", "moments")
    @classmethod
    def _names_are_distinct(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) != len(names):
            raise ValueError("expected each name once")
        return names

    @field_validator("search")
    @classmethod
    def _settings_can_be_searched(cls, search: Space, info: ValidationInfo) -> Space:
        parts = {part: info.data[part] for part in PARTS if part in info.data}
        return checked_space(search, parts) if len(parts) == len(PARTS) else search  # else these are the error

    @model_validator(mode="after")
    def _inputs_go_together(self) -> "Recipe":
        if self.fields and self.without:
            raise ValueError("fields and without cannot be combined; remove one of them")
        if self.numbers and self.signals:
            raise ValueError("numbers and signals cannot be combined; remove one of them")
        if isinstance(self.model, AutoIntMultitaskConfig) and self.model.pairwise_weight and not self.negatives:
            raise ValueError("model.pairwise_weight needs negatives to rank likes above; add negatives, or remove it")
        if self.pretrained and self.negatives:
            raise ValueError("pretrained and negatives cannot be combined; remove one of them")
        embedded = self.fields or tuple(name for name in PAIR_FEATURES if name not in self.without)
        if lacking := [name for name in self.pretrained if name not in embedded]:
            raise ValueError(f"pretrained: {', '.join(lacking)} is no feature of the recipe; add it, or remove this")
        return self

    @model_validator(mode="after")
    def _order_alone(self) -> "Recipe":
        if not self.learns_order:
            return self
        if self.fields != PAIR_FEATURES:
            raise ValueError(
                f"{self.architecture} needs fields: [{', '.join(PAIR_FEATURES)}], got [{', '.join(self.fields)}]"
            )
        others = ("multivalued", "numbers", "signals", "negatives", "pretrained", "warm_start", "moments")
        if unused := [name for name in others if getattr(self, name)]:
            raise ValueError(f"{self.architecture} learns from the order of ratings alone; remove {', '.join(unused)}")
        return self

    @model_validator(mode="before")
    @classmethod
    def _settings_are_the_architectures(cls, document: Any) -> Any:
        if not isinstance(document, dict):
            return document
        architecture, settings = document.get("architecture", ""), document.get("model") or {}
        if architecture not in ARCHITECTURES:
            raise ValueError(f"unknown architecture {architecture!r}; expected one of {', '.join(ARCHITECTURES)}")
        if isinstance(settings, dict):
            settings = ARCHITECTURES[architecture].model_validate(settings)
        return {**document, "model": settings}

    @property
    def learns_order(self) -> bool:
        """Whether it learns from the order of each user's ratings."""
        return isinstance(self.model, SASRecConfig)

    @property
    def features(self) -> str:
        """Say which features it learns from."""
        named = ", ".join((*self.fields, *self.multivalued))
        features = named or ("all features" + (f" but {', '.join(self.without)}" if self.without else ""))
        return ", ".join((features, *self.moments, *(["the order of ratings"] if self.learns_order else [])))

    def obstacle(self, feature_map: FeatureMap) -> str:
        """Return why nothing can be learned from a data set by this recipe; empty if something can."""
        timed = (*self.numbers, *self.moments)
        ordered = self.learns_order or self.pretrained or (self.signals and self.signals.sequence)
        without_likes = feature_map.liked is None
        obstacles = {
            f"the data set has none of the recipe's fields {', '.join(self.fields)}": self.fields
            and not any(name in feature_map.names for name in self.fields),
            f"the recipe learns from {', '.join(timed)}, and the data set's ratings have no time": timed
            and not feature_map.has_times,
            "the recipe learns from the order of ratings, and the data set's ratings have no time": ordered
            and not feature_map.has_times,
            "the data set has no ratings, and the recipe learns to predict them": without_likes
            and isinstance(self.model, AutoIntMultitaskConfig),
            "every row of the data set is a like, and the recipe learns to tell likes from dislikes": without_likes
            and not (self.negatives or self.learns_order),
            "the recipe's lists are diverse by genre, and the data set's movies have no genres": self.diversity
            and "genres" not in feature_map.multivalued_names,
        }
        return next((text for text, holds in obstacles.items() if holds), "")

    def within(self, feature_map: FeatureMap) -> "Recipe":
        """Return the recipe with those of its features that a data set has; ``fields`` names them all.

        Args:
            feature_map: of the data set.

        Raises:
            DataError: it has none of the recipe's fields.
        """
        names, signals = feature_map.names, self.signals
        own = [name for name in names if name not in schema.MOMENT_NAMES]
        wanted = self.fields or tuple(name for name in own if name not in self.without) or tuple(own[:2])
        if not (fields := tuple(name for name in wanted if name in names)):
            raise DataError(f"none of the recipe's fields is there: {', '.join(self.fields)}; expected at least one")
        fields = tuple(dict.fromkeys((*fields, *self.moments)))
        if signals:
            signals = signals.within(names)
        multivalued = tuple(name for name in self.multivalued if name in feature_map.multivalued_names)
        return self.model_copy(update={"fields": fields, "without": (), "multivalued": multivalued, "signals": signals})

    def left_out(self, feature_map: FeatureMap) -> list[str]:
        """Return the features that the recipe names and the data set lacks."""
        has = {*feature_map.names, *feature_map.multivalued_names}
        return [name for name in (*self.fields, *self.multivalued) if name not in has]

    def positions(self, names: Sequence[str]) -> Sequence[int] | None:
        """Positions of the features that ``within`` names among ``names``; None for all of them in their order."""
        return None if self.fields == tuple(names) else [names.index(name) for name in self.fields]

    def fingerprint(self, *without: str) -> str:
        """Return a digest of the settings that can change a result, without those named."""
        return digest(self.model_dump_json(exclude={*NOT_LEARNED, *without}).encode())


def _checked_name(name: str) -> str:
    if not re.fullmatch(_NAME, name):
        raise ValueError("expected lowercase letters, digits and underscores, first a letter, at most 64 of them")
    return name


class RecipeBook(BaseModel, frozen=True, extra="forbid"):
    """Content of the file."""

    recipes: dict[Annotated[str, AfterValidator(_checked_name)], Recipe] = Field(min_length=1)

    @field_validator("recipes")
    @classmethod
    def _some_are_enabled(cls, recipes: dict[str, Recipe]) -> dict[str, Recipe]:
        if not any(recipe.enabled for recipe in recipes.values()):
            raise ValueError("at least one recipe must be enabled")
        return recipes


def load_recipes(path: Path, described: Iterable[schema.Description] = ()) -> dict[str, Recipe]:
    """Return the enabled recipes by name, in the file's order.

    Args:
        path: the file.
        described: data sets, besides MovieLens, whose features recipes may name.

    Raises:
        DataError: names the file and the field; also for a feature that no data set has.
    """
    book, descriptions = read_settings(path, RecipeBook), (schema.MOVIELENS, *described)
    sides = {field.name: field.side for each in descriptions for field in each.fields}
    multivalued = dict.fromkeys(name for each in descriptions for name in each.multivalued)
    for name, recipe in book.recipes.items():
        _require_known(f"{path}, recipes.{name}", (*recipe.fields, *recipe.without), sides)
        for side, names in (recipe.signals.fields if recipe.signals else {}).items():
            own = [field for field, its in sides.items() if its == side]
            _require_known(f"{path}, recipes.{name}.signals", names, own)
        _require_known(f"{path}, recipes.{name}.multivalued", recipe.multivalued, multivalued)
    return {name: recipe for name, recipe in book.recipes.items() if recipe.enabled}


def _require_known(where: str, names: Iterable[str], known: Collection[str]) -> None:
    """Raise DataError for a feature that no data set has."""
    if unknown := [name for name in names if name not in known]:
        raise DataError(f"{where}: unknown {', '.join(unknown)}; expected some of {', '.join(known)}")


def own_parameters(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe's own values as a trial's parameters. Raises DataError if its search space lacks one."""
    parameters = {}
    for name, values in recipe.search.items():
        part, _, setting = name.partition(".")
        own = getattr(getattr(recipe, part), setting)
        parameters[name] = values.parameter(own)
        if parameters[name] is None:
            raise DataError(
                f"search.{name}: does not contain {own!r}, the recipe's own value, which is tried first; "
                f"widen the range, or add {own!r} to the choices"
            )
    return parameters


def with_values(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """Return the recipe with other values of dotted settings. Raises DataError for a value that is refused."""
    changes: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        part, _, setting = name.partition(".")
        if part not in PARTS:
            raise DataError(f"{name}: expected a setting of {' or '.join(PARTS)}")
        changes.setdefault(part, {})[setting] = value
    update = {part: changed(getattr(recipe, part), part, settings) for part, settings in changes.items()}
    return recipe.model_copy(update=update)


def recipes_text(recipes: Mapping[str, Recipe]) -> str:
    """Return a file's text that ``load_recipes`` reads as these recipes; default values are left out."""
    documents = {}
    for name, recipe in recipes.items():
        document = recipe.model_dump(mode="json", exclude_defaults=True)
        documents[name] = {key: value for key, value in document.items() if key not in PARTS or value}
    style: dict[str, Any] = {"sort_keys": False, "allow_unicode": True, "default_flow_style": None, "width": 116}
    return yaml.safe_dump({"recipes": documents}, **style)
