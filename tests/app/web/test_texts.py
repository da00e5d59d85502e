import string

import pytest

from app.web.texts import LANGUAGES, Texts, texts_in
from ml import schema
from ml.published.purposes import SENTENCES, Purpose

ENGLISH = Texts("en")


def placeholders(value: object) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(value) if name} if isinstance(value, str) else set()


@pytest.mark.parametrize("language", LANGUAGES)
def test_languages_say_the_same(language: str) -> None:
    own = Texts(language)._texts
    assert list(own) == list(ENGLISH._texts)
    for key, value in own.items():
        assert value
        assert placeholders(value) == placeholders(ENGLISH._texts[key])
        if isinstance(value, dict):
            assert list(value) == list(ENGLISH._texts[key])
            assert all(value.values())


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_value_has_a_name(language: str) -> None:
    texts = Texts(language)
    for kind, values in (
        ("gender", schema.GENDERS),
        ("age", schema.AGE_GROUPS),
        ("occupation", range(len(schema.OCCUPATIONS))),
    ):
        assert all(texts.name(kind, value) != str(value) for value in values)
    assert len({texts.month_name(month) for month in range(1, 13)}) == 12


def test_english_names_are_the_data_sets() -> None:
    assert [ENGLISH.name("occupation", code) for code in range(21)] == list(schema.OCCUPATIONS)


def test_english_purposes_are_those_of_the_library() -> None:
    assert {purpose: ENGLISH.purpose(purpose) for purpose in Purpose} == SENTENCES


def test_unknown_language_is_english() -> None:
    assert texts_in("xx").language == "en"
    assert texts_in("ko").moment(2003, 2) == "2003년 2월"
    assert texts_in("en").moment(2003, 2) == "February 2003"
