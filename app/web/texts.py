"""Load the pages' texts by language."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from ml.published.purposes import Purpose
from ml.schema import IdType

LANGUAGES = {"en": "English", "ko": "한국어"}
_LOCALES = Path(__file__).with_name("locales")


class Texts:
    """The texts of one language.

    Args:
        language: key of ``LANGUAGES``.
    """

    def __init__(self, language: str) -> None:
        self.language = language
        self._texts: dict[str, Any] = yaml.safe_load((_LOCALES / f"{language}.yaml").read_text(encoding="utf-8"))

    def __call__(self, key: str, **values: Any) -> str:
        """Return the text ``key`` with its placeholders filled in."""
        return str(self._texts[key]).format(**values)

    def of_ids(self, key: str, kind: IdType, **values: Any) -> str:
        """Return the text ``key`` about ids of a type; ``<key>_string`` is about strings."""
        return self(key if kind is int else f"{key}_string", **values)

    def of_times(self, key: str, has_times: bool, **values: Any) -> str:
        """Return the text ``key`` with a month; ``<key>_timeless`` is about ratings without times."""
        return self(key if has_times else f"{key}_timeless", **values)

    def feature(self, name: str) -> str:
        """Return the readable name of a feature of users, or the name itself."""
        return str(self._texts["feature_names"].get(name, name))

    def name(self, kind: str, value: Any) -> str:
        """Return a value's readable name, or the value itself; ``kind`` is gender, age, occupation or genre."""
        return str(self._texts[f"{kind}_names"].get(value, value))

    def model(self, name: str) -> str:
        """Return a model's readable name."""
        return str(self._texts.get(name, name))

    def purpose(self, purpose: Purpose) -> str:
        """Return a sentence that says what a model is for."""
        return str(self._texts["purpose_names"][purpose])

    def month_name(self, month: int) -> str:
        """Return the name of a month 1-12."""
        return str(self._texts["month_names"][month - 1])

    def moment(self, year: int, month: int) -> str:
        """Return month and year as text."""
        return self("month_form", year=year, name=self.month_name(month))


@lru_cache(maxsize=len(LANGUAGES))
def texts_in(language: str) -> Texts:
    """Return the texts of a language; of the first language if it is unknown."""
    return Texts(language if language in LANGUAGES else next(iter(LANGUAGES)))
