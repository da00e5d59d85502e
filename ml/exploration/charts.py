"""Draw the charts of the data report."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_COLOR, _SECOND = "#2f5d73", "#a3341f"
_WIDTH = 7.0  # inches
_MOST_TICKS = 14


def bars(counts: pd.Series, xlabel: str) -> Figure:
    """Draw horizontal bars with their values, in order from top to bottom."""
    figure, axes = _figure(0.9 + 0.26 * len(counts))
    drawn = axes.barh(_names(counts.index), counts.to_numpy(), color=_COLOR)
    axes.bar_label(drawn, labels=[f"{count:,}" for count in counts], padding=3, fontsize=8)
    axes.set(xlabel=xlabel)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.margins(x=0.12)
    axes.invert_yaxis()
    return figure


def columns(counts: pd.Series, xlabel: str, ylabel: str) -> Figure:
    """Draw vertical bars, one per value."""
    figure, axes = _figure(3.2)
    axes.bar(counts.index.to_numpy(), counts.to_numpy(), color=_COLOR)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    return figure


def bars_and_means(table: pd.DataFrame) -> Figure:
    """Draw the number of ratings by genre and their mean; ``table`` has the columns ratings and mean_rating."""
    figure = Figure(figsize=(_WIDTH, 0.9 + 0.26 * len(table)), layout="constrained")
    counts, means = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    counts.barh(_names(table.index), table["ratings"], color=_COLOR)
    counts.set(xlabel="ratings")
    counts.locator_params(axis="x", nbins=4)
    counts.xaxis.set_major_formatter("{x:,.0f}")
    means.plot(table["mean_rating"], _names(table.index), "o", color=_SECOND)
    means.set(xlabel="mean rating")
    means.grid(axis="x", alpha=0.3)
    counts.invert_yaxis()
    for axes in (counts, means):
        _tidy(axes)
    return figure


def counts_and_likes(table: pd.DataFrame, counts: list[str]) -> Figure:
    """Draw counts by group on a logarithmic scale, and below them the share of likes.

    Args:
        table: columns like_share and the counts, one row per group, in order.
        counts: names of the count columns.
    """
    figure = Figure(figsize=(_WIDTH, 4.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    places = np.arange(len(table))
    for name, color in zip(counts, (_COLOR, _SECOND), strict=False):
        upper.plot(places, table[name], marker=".", color=color, label=name.replace("_", " "))
    upper.set_yscale("symlog", linthresh=10)
    upper.set_ylim(bottom=0)
    upper.yaxis.set_major_formatter("{x:,.0f}")
    upper.set_ylabel("number")
    upper.legend(frameon=False)
    lower.plot(places, table["like_share"], marker=".", color=_COLOR)
    lower.set(ylabel="share of likes", ylim=(0, 1))
    step = -(-len(table) // _MOST_TICKS)
    lower.set_xticks(places[::step], table.index[::step], rotation=45, ha="right")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
        _tidy(axes)
    return figure


def tails(of_movies: np.ndarray, of_users: np.ndarray) -> Figure:
    """Draw the ratings per movie and per user, most rated first, both on logarithmic scales."""
    figure, axes = _figure(3.4)
    for counts, label, color in ((of_movies, "movies", _COLOR), (of_users, "users", _SECOND)):
        axes.loglog(np.arange(1, len(counts) + 1), counts, color=color, label=label)
    axes.set(xlabel="rank, most rated first", ylabel="ratings")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:,.0f}")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


def _names(index: pd.Index) -> list[str]:
    """Escape dollar signs: Matplotlib would render text between them as math."""
    return [str(name).replace("$", r"\$") for name in index]


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    _tidy(axes)
    return figure, axes


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
