"""The questions at the side; the address of the page holds them, so that it can be reloaded and shared."""

from dataclasses import dataclass

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
    given = str(st.query_params.get("lang", ""))
    codes = list(LANGUAGES)
    with st.sidebar:
        chosen = st.segmented_control(
            "Language · 언어",
            codes,
            default=given if given in codes else codes[0],
            format_func=LANGUAGES.__getitem__,
            key="lang",
        )
    language = chosen or codes[0]
    _remember(lang=language)
    return texts_in(language)


def choose_dataset(texts: Texts, datasets: list[str]) -> str:
    """The data set, where there are several."""
    if len(datasets) == 1:
        return datasets[0]
    given = st.query_params.get("dataset")
    index = datasets.index(given) if given in datasets else 0
    chosen = st.sidebar.selectbox(texts("dataset"), datasets, index=index)
    _remember(dataset=chosen)
    return chosen


def ask(texts: Texts, snapshot: Snapshot) -> Question:
    """What the widgets at the side say."""
    with st.sidebar:
        who = st.radio(
            texts("who"),
            [USER, VISITOR],
            index=int(st.query_params.get("who") == VISITOR),
            format_func=texts,
            horizontal=True,
        )
        user_id = _user_id(texts, snapshot) if who == USER else ""
        models = _models(texts, snapshot)
        moment = _moment(texts, snapshot, models)
        among = _among(texts, snapshot)
        if who == USER:
            st.button(texts("recommend"), type="primary", width="stretch")
    _remember(who=who, user=user_id.strip(), year=str(moment[0]), month=str(moment[1]))
    return Question(who, user_id.strip(), moment, models, among)


def _user_id(texts: Texts, snapshot: Snapshot) -> str:
    first, last = snapshot.people.first_and_last
    return st.text_input(
        texts("user_id"),
        value=st.query_params.get("user", ""),
        placeholder=texts("user_id_hint", first=first, last=last),
    )


def _models(texts: Texts, snapshot: Snapshot) -> tuple[PublishedModel, ...]:
    names = sorted(snapshot.models, key=lambda name: (name not in _PREFERRED, name))
    options = [*names, *([_COMPARE] if len(names) > 1 else [])]
    given = st.query_params.get_all("model")
    index = len(names) if len(given) > 1 and len(names) > 1 else _index(names, given[:1])
    chosen = st.selectbox(
        texts("models"),
        options,
        index=index,
        format_func=lambda name: texts("compare") if name == _COMPARE else texts.model(name),
    )
    if chosen != _COMPARE:
        picked = [chosen]
    else:
        pair = given if len(given) > 1 else names[:2]
        first = st.selectbox(texts("first"), names, index=_index(names, pair[:1]), format_func=texts.model)
        others = [name for name in names if name != first]
        second = st.selectbox(texts("second"), others, index=_index(others, pair[1:]), format_func=texts.model)
        picked = [first, second]
    st.query_params["model"] = picked
    return tuple(snapshot.model(name) for name in picked)


def _moment(texts: Texts, snapshot: Snapshot, models: tuple[PublishedModel, ...]) -> tuple[int, int]:
    tables_year, tables_month = models[0].lists.moment
    years, months = snapshot.people.years, snapshot.people.months
    left, right = st.columns(2)
    with left:
        year = st.selectbox(texts("year"), years, index=_index(years, [_number("year", tables_year)]))
    with right:
        month = st.selectbox(
            texts("month"),
            months,
            index=_index(months, [_number("month", tables_month)]),
            format_func=texts.month_name,
        )
    return year, month


def _among(texts: Texts, snapshot: Snapshot) -> list[int] | None:
    people = snapshot.people
    first, last = int(people.movies["movie_year"].min()), int(people.movies["movie_year"].max())
    with st.expander(texts("filters")):
        genres = st.multiselect(
            texts("genres"),
            people.genres(),
            format_func=lambda genre: texts.name("genre", genre),
            placeholder=texts("any_genre"),
        )
        released = st.slider(texts("released"), first, last, (first, last)) if first < last else (first, last)
        st.caption(texts("filters_note"))
    if not genres and released == (first, last):
        return None
    return people.matching(genres, released)


def _index(options: list, given: list) -> int:
    return options.index(given[0]) if given and given[0] in options else 0


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
