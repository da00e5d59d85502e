"""The questions at the side; the address of the page holds them, so that it can be reloaded and shared."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from app.web.texts import LANGUAGES, Texts, texts_in
from ml.inference.published import PublishedModel, Snapshot

USER, VISITOR = "user", "visitor"
_COMPARE = "compare"
_PREFERRED = ("autoint", "autoint_mlp")  # the pair that the project exists to compare


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        who: ``USER`` or ``VISITOR``.
        user_id: as it was typed.
        moment: year and month.
        models: one, or two to be compared.
        among: ids of the movies that may be listed; None for all.
    """

    who: str
    user_id: str
    moment: tuple[int, int]
    models: tuple[PublishedModel, ...]
    among: list[int] | None


def choose_language() -> Texts:
    """The language, from the address or from the choice at the side."""
    codes = list(LANGUAGES)
    _begin("lang", st.query_params.get("lang"), codes)
    with st.sidebar:
        st.segmented_control("Language · 언어", codes, format_func=LANGUAGES.__getitem__, key="lang", required=True)
    _remember(lang=st.session_state.lang)
    return texts_in(st.session_state.lang)


def choose_dataset(texts: Texts, datasets: list[str]) -> str:
    """The data set, where there are several."""
    if len(datasets) == 1:
        return datasets[0]
    _begin("dataset", st.query_params.get("dataset"), datasets)
    chosen = st.sidebar.selectbox(texts("dataset"), datasets, key="dataset")
    _remember(dataset=chosen)
    return chosen


def ask(texts: Texts, snapshot: Snapshot) -> Question:
    """What the widgets at the side say."""
    with st.sidebar:
        _begin("who", st.query_params.get("who"), [USER, VISITOR])
        who = st.radio(texts("who"), [USER, VISITOR], format_func=texts, horizontal=True, key="who")
        user_id = _user_id(texts, snapshot) if who == USER else ""
        models = _models(texts, snapshot)
        moment = _moment(texts, snapshot, models)
        among = _among(texts, snapshot)
        if who == USER:
            st.button(texts("recommend"), type="primary", width="stretch")
    _remember(who=who, user=user_id, year=str(moment[0]), month=str(moment[1]))
    return Question(who, user_id, moment, models, among)


def _user_id(texts: Texts, snapshot: Snapshot) -> str:
    first, last = snapshot.people.first_and_last
    st.session_state.setdefault("user", st.query_params.get("user", ""))
    st.text_input(texts("user_id"), placeholder=texts("user_id_hint", first=first, last=last), key="user")
    return str(st.session_state.user).strip()


def _models(texts: Texts, snapshot: Snapshot) -> tuple[PublishedModel, ...]:
    names = sorted(snapshot.models, key=lambda name: (name not in _PREFERRED, name))
    options = [*names, *([_COMPARE] if len(names) > 1 else [])]
    given = st.query_params.get_all("model")
    _begin("model", _COMPARE if len(given) > 1 else given[:1], options)
    chosen = st.selectbox(
        texts("models"),
        options,
        format_func=lambda name: texts("compare") if name == _COMPARE else texts.model(name),
        key="model",
    )
    picked = [chosen] if chosen != _COMPARE else _pair(texts, names, given if len(given) > 1 else names[:2])
    st.query_params["model"] = picked
    return tuple(snapshot.model(name) for name in picked)


def _pair(texts: Texts, names: list[str], given: list[str]) -> list[str]:
    _begin("first", given[0], names)
    first = st.selectbox(texts("first"), names, format_func=texts.model, key="first")
    others = [name for name in names if name != first]
    _begin("second", given[1], others)
    return [first, st.selectbox(texts("second"), others, format_func=texts.model, key="second")]


def _moment(texts: Texts, snapshot: Snapshot, models: tuple[PublishedModel, ...]) -> tuple[int, int]:
    years, months = snapshot.people.years, snapshot.people.months
    tables = models[0].lists.moment
    _begin("year", _number("year", tables[0]), years)
    _begin("month", _number("month", tables[1]), months)
    left, right = st.columns(2)
    with left:
        year = st.selectbox(texts("year"), years, key="year")
    with right:
        month = st.selectbox(texts("month"), months, format_func=texts.month_name, key="month")
    return year, month


def _among(texts: Texts, snapshot: Snapshot) -> list[int] | None:
    people = snapshot.people
    first, last = int(people.movies["movie_year"].min()), int(people.movies["movie_year"].max())
    with st.expander(texts("filters")):
        genres = st.multiselect(
            texts("genres"),
            people.genres,
            format_func=lambda genre: texts.name("genre", genre),
            placeholder=texts("any_genre"),
        )
        released = st.slider(texts("released"), first, last, (first, last)) if first < last else (first, last)
        st.caption(texts("filters_note"))
    if not genres and released == (first, last):
        return None
    return people.matching(genres, released)


def _begin(key: str, given: Any, options: Sequence[Any]) -> None:
    """Give a widget its first value: what the address says, else the first option.

    Widgets keep their values by their keys; with values as arguments they would be new ones when the address changes.
    """
    given = given[0] if isinstance(given, list) and given else given
    if st.session_state.get(key) not in options:
        st.session_state[key] = given if given in options else options[0]


def _number(name: str, default: int) -> int:
    given = st.query_params.get(name, "")
    return int(given) if given.isdecimal() else default


def _remember(**values: str) -> None:
    """Into the address; what is empty is left out."""
    for name, value in values.items():
        if value:
            st.query_params[name] = value
        elif name in st.query_params:
            del st.query_params[name]
