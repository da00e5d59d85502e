"""Render the sidebar, where the query is entered."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from app.web.address import Address
from app.web.texts import LANGUAGES, Texts, texts_in
from ml.published.snapshot import PublishedModel, Snapshot
from ml.schema import Id

USER, VISITOR = "user", "visitor"
_COMPARE = "compare"


@dataclass(frozen=True)
class Query:
    """What the page shows.

    Attributes:
        audience: ``USER`` or ``VISITOR``.
        user_id: as typed, without spaces around it unless they are part of a known id.
        moment: year and month.
        models: one, or two to compare.
        among: ids of the movies that may be listed; None for all.
    """

    audience: str
    user_id: str
    moment: tuple[int, int]
    models: tuple[PublishedModel, ...]
    among: list[Id] | None


def choose_language(address: Address) -> Texts:
    """Let the user choose the language; the URL sets the first one."""
    codes = list(LANGUAGES)
    _initialize("lang", address.take("lang", codes), codes)
    st.sidebar.segmented_control("Language · 언어", codes, format_func=LANGUAGES.__getitem__, key="lang", required=True)
    return texts_in(st.session_state.lang)


def choose_dataset(texts: Texts, address: Address, datasets: list[str]) -> str:
    """Let the user choose a data set if there are several."""
    given = address.take("dataset", datasets)
    if len(datasets) == 1:
        return datasets[0]
    _initialize("dataset", given, datasets)
    return str(st.sidebar.selectbox(texts("dataset"), datasets, key="dataset"))


def ask(texts: Texts, address: Address, snapshot: Snapshot) -> Query:
    """Render the widgets and return the query."""
    with st.sidebar:
        _initialize("who", address.take("who", [USER, VISITOR]), [USER, VISITOR])
        audience = st.radio(texts("who"), [USER, VISITOR], format_func=texts, horizontal=True, key="who")
        user_id = _user_id(texts, address, snapshot, shown=audience == USER)
        models = _models(texts, address, snapshot)
        moment = _moment(texts, address, snapshot, models)
        among = _filtered(texts, snapshot)
        if audience == USER:
            st.button(texts("recommend"), type="primary", width="stretch")
    return Query(audience, user_id, moment, models, among)


def remember(address: Address, texts: Texts, datasets: Sequence[str], dataset: str, query: Query) -> None:
    """Write the query into the URL."""
    address.write(
        lang=texts.language,
        dataset=dataset if len(datasets) > 1 else "",
        who=query.audience,
        user=query.user_id,
        model=[model.name for model in query.models],
        year=str(query.moment[0]),
        month=str(query.moment[1]),
    )


def _user_id(texts: Texts, address: Address, snapshot: Snapshot, shown: bool) -> str:
    people = snapshot.people
    first, last = people.first_and_last
    st.session_state.setdefault("user", address.text("user"))
    if not shown:
        return ""
    hint = texts.of_ids("user_id_hint", people.user_id_type, first=first, last=last)
    st.text_input(texts.of_ids("user_id", people.user_id_type), placeholder=hint, key="user")
    typed = str(st.session_state.user)
    return typed if typed in people.users.index else typed.strip()


def _models(texts: Texts, address: Address, snapshot: Snapshot) -> tuple[PublishedModel, ...]:
    """Let the user choose one model, or two to compare; the default model comes first."""
    names = list(snapshot.purposes)
    options = [*names, *([_COMPARE] if len(names) > 1 else [])]
    given = address.take_all("model", names, 2)
    _initialize("model", _COMPARE if len(given) > 1 else next(iter(given), None), options)
    chosen = st.selectbox(
        texts("models"),
        options,
        format_func=lambda name: texts("compare") if name == _COMPARE else texts.model(name),
        key="model",
    )
    picked = [chosen] if chosen != _COMPARE else _pair(texts, names, given if len(given) > 1 else names[:2])
    return tuple(snapshot.model(name) for name in picked)


def _pair(texts: Texts, names: list[str], given: list[str]) -> list[str]:
    _initialize("first", given[0], names)
    first = st.selectbox(texts("first"), names, format_func=texts.model, key="first")
    others = [name for name in names if name != first]
    _initialize("second", given[1], others)
    return [first, st.selectbox(texts("second"), others, format_func=texts.model, key="second")]


def _moment(texts: Texts, address: Address, snapshot: Snapshot, models: tuple[PublishedModel, ...]) -> tuple[int, int]:
    years, months = snapshot.people.years, snapshot.people.months
    tables = models[0].lists.moment
    _initialize("year", address.take("year", years) or tables[0], years)
    _initialize("month", address.take("month", months) or tables[1], months)
    if not snapshot.people.has_times:
        return tables
    left, right = st.columns(2)
    year = left.selectbox(texts("year"), years, key="year")
    month = right.selectbox(texts("month"), months, format_func=texts.month_name, key="month")
    return year, month


def _filtered(texts: Texts, snapshot: Snapshot) -> list[Id] | None:
    people = snapshot.people
    first, last = people.released
    if not people.genres and first == last:
        return None
    with st.expander(texts("filters")):
        genres = (
            []
            if not people.genres
            else st.multiselect(
                texts("genres"),
                people.genres,
                format_func=lambda genre: texts.name("genre", genre),
                placeholder=texts("any_genre"),
                select_all=False,  # with it, Enter would select all matches of the typed text
            )
        )
        released = st.slider(texts("released"), first, last, (first, last)) if first < last else (first, last)
        st.caption(texts("filters_note"))
    if not genres and released == (first, last):
        return None
    return people.matching(genres, released)


def _initialize(key: str, given: Any, options: Sequence[Any]) -> None:
    """Set a widget's first value: the given one, else the first option.

    Widgets keep their values under their keys. If the value were an argument, a change of the URL would reset them.
    """
    if st.session_state.get(key) not in options:
        st.session_state[key] = given if given in options else options[0]
