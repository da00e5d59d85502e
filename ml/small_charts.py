"""Charts as SVG of a few hundred bytes, for places that take no more; those of plotting libraries are far larger.

Grey is read on a light and on a dark background. Coordinates are whole pixels.
"""

from collections.abc import Iterable
from html import escape

import numpy as np
import pandas as pd

_COLOURS = ("#38c", "#d63")
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 290, 14, 90  # of the plot
_MOST_POINTS = 16  # of a curve
_BAR, _NAMES, _AMOUNTS = 15, 90, 50  # height of a bar with its gap, width of the names and of the amounts


def line_chart(curves: pd.DataFrame) -> str:
    """One or two curves with a legend; each axis tells its least and greatest value. Long curves are thinned evenly.

    Args:
        curves: a column a curve, finite numbers; the index, rising numbers, says where.

    Raises:
        ValueError: no row, no or more than two columns, or a number that is not finite.
    """
    if curves.empty or curves.shape[1] > len(_COLOURS) or not np.isfinite(curves.to_numpy(float)).all():
        raise ValueError(f"one or two curves of finite numbers, at least one each, not\n{curves}")
    kept = curves.iloc[np.unique(np.linspace(0, len(curves) - 1, min(len(curves), _MOST_POINTS)).round().astype(int))]
    first, last, low, high = kept.index[0], kept.index[-1], kept.to_numpy().min(), kept.to_numpy().max()
    across = _scaled(kept.index.to_numpy(float), first, last, _LEFT, _RIGHT)
    parts = [f"<path d='M{_LEFT} {_TOP}V{_BOTTOM}H{_RIGHT}' stroke='#888' fill='none'/>"]
    for name, colour, place in zip(kept, _COLOURS, (_LEFT + 8, (_LEFT + _RIGHT) // 2), strict=False):
        upward = _scaled(kept[name].to_numpy(float), low, high, _BOTTOM, _TOP)
        points = " ".join(f"{x},{y}" for x, y in zip(across, upward, strict=True))
        parts.append(f"<polyline points='{points}' stroke='{colour}' fill='none'/>")
        parts.append(_text(place, 9, str(name), f" fill='{colour}'"))
    parts += [_text(0, _TOP + 8, _number(high)), _text(0, _BOTTOM, _number(low))]
    parts += [_text(_LEFT, _BOTTOM + 12, _number(first)), _text(_RIGHT - 20, _BOTTOM + 12, _number(last))]
    return _svg(_BOTTOM + 16, parts)


def bar_chart(amounts: pd.Series) -> str:
    """Bars from the left with their names and amounts, from the top down.

    Args:
        amounts: finite numbers of zero or more, by name.

    Raises:
        ValueError: no amount, or one that is not such a number.
    """
    values = amounts.to_numpy(float)
    if not len(values) or not np.isfinite(values).all() or values.min() < 0:
        raise ValueError(f"amounts of zero or more by name, at least one, not\n{amounts}")
    widths = _scaled(values, 0, values.max(), 0, _RIGHT - _NAMES - _AMOUNTS)
    lines, parts = [], []
    for place, (name, value, width) in enumerate(zip(amounts.index, values, widths, strict=True)):
        y = place * _BAR
        lines.append(f"M{_NAMES} {y + 7}h{width}")
        told = f"{value:,.0f}" if value.is_integer() else _number(value)
        parts += [_text(0, y + 11, str(name)), _text(_NAMES + width + 3, y + 11, told)]
    bars = f"<path d='{''.join(lines)}' stroke='{_COLOURS[0]}' stroke-width='{_BAR - 4}'/>"
    return _svg(len(values) * _BAR, [bars, *parts])


def _scaled(values: np.ndarray, low: float, high: float, first: int, last: int) -> list[int]:
    """Pixels, ``low`` at ``first`` and ``high`` at ``last``; in the middle where both are the same."""
    shares = (values - low) / (high - low) if high > low else np.full(len(values), 0.5)
    return [int(pixel) for pixel in np.round(first + shares * (last - first))]


def _number(value: float) -> str:
    return f"{value:.4g}"


def _text(x: int, y: int, text: str, colour: str = "") -> str:
    return f"<text x='{x}' y='{y}'{colour}>{escape(text)}</text>"


def _svg(height: int, parts: Iterable[str]) -> str:
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{_RIGHT + 10}' height='{height}' font-size='10' "
        f"font-family='sans-serif' fill='#888'>{''.join(parts)}</svg>"
    )
