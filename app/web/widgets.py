"""Render parts of pages. Values from data are escaped, since a title may contain any markup."""

import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from app.web.answers import Answer
from app.web.texts import Texts
from ml import schema
from ml.published.people import People, full_titles

_STYLE = Path(__file__).with_name("style.css")


def style() -> None:
    """Apply the style sheet."""
    st.html(f"<style>{_STYLE.read_text(encoding='utf-8')}</style>")


def facts(pairs: Mapping[str, Any]) -> None:
    """Show names and values side by side."""
    cells = (f"<div><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>" for name, value in pairs.items())
    st.html(f'<dl class="rec-facts">{"".join(cells)}</dl>')


def movie_list(texts: Texts, answer: Answer, shared: set[schema.Id], explanations: Mapping[schema.Id, str]) -> None:
    """Show a top list.

    Args:
        texts: texts of the language.
        answer: the list.
        shared: ids of movies that are also in the other list.
        explanations: sentences by movie id.
    """
    cards = (_card(texts, row, answer, row.movie_id in shared, explanations) for row in answer.rows.itertuples())
    st.html(f'<ol class="rec-list">{"".join(cards)}</ol>')


def _card(texts: Texts, row: Any, answer: Answer, is_shared: bool, explanations: Mapping[schema.Id, str]) -> str:
    about = " · ".join(filter(None, (_genres(texts, row.genres), str(row.movie_id))))
    mark = f' <b class="rec-mark">✓ {escape(texts("in_both"))}</b>' if is_shared else ""
    chance = ""
    if answer.model.scores_are_chances:
        label = f"{row.score:.0%}"
        bar = f'<div class="rec-bar" aria-hidden="true"><i style="width:{row.score:.0%}"></i></div>'
        chance = f'<div class="rec-chance">{label}{bar}</div>'
    year = "" if row.movie_year == schema.NO_YEAR else f"<span>({row.movie_year})</span>"
    sentence = explanations.get(row.movie_id)
    explanation = f'<div class="rec-why">{escape(sentence)}</div>' if sentence else ""
    return (
        f'<li><div class="rec-rank">{row.rank}</div>'
        f'<div class="rec-title">{escape(row.title)} {year}</div>{chance}'
        f'<div class="rec-about">{escape(about)}{mark}</div>{explanation}</li>'
    )


def _genres(texts: Texts, genres: str) -> str:
    return ", ".join(texts.name("genre", genre) for genre in genres.split("|"))


def explanation_texts(
    texts: Texts, key: str, people: People, explanations: Mapping[schema.Id, schema.Id]
) -> dict[schema.Id, str]:
    """Return a sentence by movie id that names the liked movie that explains it."""
    return {movie: texts(key, title=people.movies["title"][liked]) for movie, liked in explanations.items()}


def history(texts: Texts, people: People, rows: pd.DataFrame) -> None:
    """Show rated movies, latest first, with what the data set tells about them."""
    told = {"title": True, "rating": people.has_ratings, "when": people.has_times, "genres": bool(people.genres)}
    shown = rows.assign(
        genres=[_genres(texts, genres) for genres in rows["genres"]],
        title=full_titles(rows),
    )[[name for name, is_told in told.items() if is_told]]
    st.dataframe(
        shown,
        hide_index=True,
        width="stretch",
        height=min(38 + 35 * len(shown), 420),
        column_config={
            "title": st.column_config.TextColumn(texts("movie"), width="large"),
            "rating": st.column_config.NumberColumn(texts("rating"), format="%g ★", width="small"),
            "when": st.column_config.DateColumn(texts("when"), format=texts("date_form"), width="small"),
            "genres": st.column_config.TextColumn(texts("genre"), width="medium"),
        },
    )


def plain(text: str) -> str:
    """Escape Markdown, for boxes that would render it."""
    return re.sub(r"([\\`*_{}\[\]()#+\-.!$~|<>:])", r"\\\1", text)
