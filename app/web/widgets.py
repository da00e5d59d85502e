"""Pieces of pages. Whatever comes from data is escaped: a title may hold anything."""

import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from app.web.answers import Answer
from app.web.texts import Texts
from ml.published.people import People

_STYLE = Path(__file__).with_name("style.css")


def style() -> None:
    """What all pages look like."""
    st.html(f"<style>{_STYLE.read_text(encoding='utf-8')}</style>")


def facts(pairs: Mapping[str, Any]) -> None:
    """Names and values side by side."""
    cells = (f"<div><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>" for name, value in pairs.items())
    st.html(f'<dl class="rec-facts">{"".join(cells)}</dl>')


def movie_list(texts: Texts, answer: Answer, shared: set[int], why: Mapping[int, str]) -> None:
    """A top list.

    Args:
        texts: of the language.
        answer: the list.
        shared: ids of movies that the other list holds too.
        why: reasons by movie id.
    """
    cards = (_card(texts, row, answer, row.movie_id in shared, why) for row in answer.rows.itertuples())
    st.html(f'<ol class="rec-list">{"".join(cards)}</ol>')


def _card(texts: Texts, row: Any, answer: Answer, is_shared: bool, why: Mapping[int, str]) -> str:
    genres = ", ".join(texts.name("genre", genre) for genre in row.genres.split("|"))
    mark = f' <b class="rec-mark">✓ {escape(texts("in_both"))}</b>' if is_shared else ""
    chance = ""
    if answer.model.scores_are_chances:
        label = f"{row.score:.0%}"
        bar = f'<div class="rec-bar" aria-hidden="true"><i style="width:{row.score:.0%}"></i></div>'
        chance = f'<div class="rec-chance">{label}{bar}</div>'
    reason = f'<div class="rec-why">{escape(why[row.movie_id])}</div>' if row.movie_id in why else ""
    return (
        f'<li><div class="rec-rank">{row.rank}</div>'
        f'<div class="rec-title">{escape(row.title)} <span>({row.movie_year})</span></div>{chance}'
        f'<div class="rec-about">{escape(genres)} · {row.movie_id}{mark}</div>{reason}</li>'
    )


def reason_texts(texts: Texts, key: str, people: People, reasons: Mapping[int, int]) -> dict[int, str]:
    """Sentences by movie id, of the liked movie that is each one's reason."""
    return {movie: texts(key, title=people.movies["title"][liked]) for movie, liked in reasons.items()}


def history(texts: Texts, rows: pd.DataFrame) -> None:
    """Rated movies, the latest first."""
    shown = rows.assign(
        genres=[", ".join(texts.name("genre", genre) for genre in own.split("|")) for own in rows["genres"]],
        title=[f"{title} ({year})" for title, year in zip(rows["title"], rows["movie_year"], strict=True)],
    )[["title", "rating", "when", "genres"]]
    st.dataframe(
        shown,
        hide_index=True,
        width="stretch",
        height=min(38 + 35 * len(shown), 420),
        column_config={
            "title": st.column_config.TextColumn(texts("movie"), width="large"),
            "rating": st.column_config.NumberColumn(texts("rating"), format="%d ★", width="small"),
            "when": st.column_config.DateColumn(texts("when"), format=texts("date_form"), width="small"),
            "genres": st.column_config.TextColumn(texts("genre"), width="medium"),
        },
    )


def plain(text: str) -> str:
    """Text for a box that would read Markdown: every mark of it is shown as it is."""
    return re.sub(r"([\\`*_{}\[\]()#+\-.!$~|<>:])", r"\\\1", text)
