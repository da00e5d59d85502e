"""Draw charts as SVG of a few hundred bytes, for Dagster's asset pages; plotting libraries produce far larger files.

Gray is readable on light and dark backgrounds. Coordinates are whole pixels. A value that is not finite is drawn as a
gap, so a chart can be drawn for any data.
"""

import io
import math
from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np
import pandas as pd
from PIL import Image

_COLORS = ("#38c", "#d63")
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 290, 14, 90  # of the plot, in pixels
_MOST_POINTS = {1: 36, 2: 16}  # per curve, by the number of curves
_BAR, _NAMES, _AMOUNTS = 15, 90, 50  # height of a bar with its gap, widths of names and amounts
_CELL, _NAME = 9, 6  # height and width of a cell of a heat map; width of a character of a name
_CLEAR = 0.15  # share of the width, between a label at an end and the next one
_GAP = "–"


def line_chart(curves: pd.DataFrame) -> str:
    """Draw one or two curves with a legend. Long curves are sampled evenly.

    Args:
        curves: one column per curve; the index has increasing numbers, or names at equal distances.

    Returns:
        The SVG element.

    Raises:
        ValueError: no column, or more than two.
    """
    if curves.shape[1] not in _MOST_POINTS:
        raise ValueError(f"expected one or two curves, got {curves.shape[1]}")
    numeric = pd.api.types.is_numeric_dtype(curves.index)
    places = curves.index.to_numpy(float) if numeric else np.arange(len(curves), dtype=float)
    values = curves.to_numpy(float)[np.isfinite(places)]
    values[~np.isfinite(values)] = np.nan
    places = places[np.isfinite(places)]
    if np.isnan(values).all():
        return _svg(_BOTTOM, [_text(_LEFT, _BOTTOM // 2, "no data"), *_legend(curves)])
    most = _MOST_POINTS[curves.shape[1]]
    kept = np.unique(np.linspace(0, len(places) - 1, min(len(places), most)).round().astype(int))
    first, last = places[0], places[-1]
    upward = _ticks(np.nanmin(values), np.nanmax(values))
    parts = _upward_axis(upward)
    parts += _across_axis([str(name) for name in curves.index] if not numeric else None, first, last)
    across = _scaled(places[kept], first, last, _LEFT, _RIGHT)
    for column, color in zip(values.T[:, kept], _COLORS, strict=False):
        heights = _scaled(column, upward[0], upward[-1], _BOTTOM, _TOP)
        parts.append(f"<path d='{_path(across, heights, np.isnan(column))}' stroke='{color}' fill='none'/>")
    return _svg(_BOTTOM + 14, [*parts, *_legend(curves)])


def bar_chart(amounts: pd.Series) -> str:
    """Draw horizontal bars with names and amounts, from top to bottom; a negative amount has no bar.

    Args:
        amounts: amounts by name.

    Returns:
        The SVG element.
    """
    values = amounts.to_numpy(float)
    known = np.where(np.isfinite(values), np.maximum(values, 0), 0)
    widths = _scaled(known, 0, max(known.max(initial=0), np.finfo(float).tiny), 0, _RIGHT - _NAMES - _AMOUNTS)
    lines, parts = [], []
    for place, (name, value, width) in enumerate(zip(amounts.index, values, widths, strict=True)):
        y = place * _BAR
        lines.append(f"M{_NAMES} {y + 7}h{width}")
        label = f"{value:,.0f}" if value.is_integer() else f"{value:.4g}" if np.isfinite(value) else _GAP
        parts += [_text(0, y + 11, str(name)), _text(_NAMES + width + 3, y + 11, label)]
    bars = f"<path d='{''.join(lines)}' stroke='{_COLORS[0]}' stroke-width='{_BAR - 4}'/>"
    return _svg(max(len(values), 1) * _BAR, [bars, *parts] if parts else [_text(0, 11, "no data")])


def heat_maps(maps: np.ndarray, names: Sequence[str]) -> str:
    """Draw square heat maps side by side: white for the lowest and black for the highest number of all, as it says.

    Args:
        maps: numbers [rows of maps, columns of maps, n, n]; one that is not finite is drawn as the lowest.
        names: of the n rows and columns of each map, which are written at the rows of each row of maps.

    Returns:
        The SVG element. The cells are a picture within it, of a pixel each: a shape for each cell takes ten times as
        much.
    """
    finite = maps[np.isfinite(maps)]
    if not finite.size:
        return _svg(_CELL, [_text(0, _CELL - 1, "no data")])
    low, high = float(finite.min()), float(finite.max())
    shades = _scaled(np.where(np.isfinite(maps), maps, low).ravel(), low, high, 255, 0)
    pixels = np.array(shades, np.uint8).reshape(maps.shape)
    gap = [(0, 0), (0, 0), (0, 1), (0, 1)]
    down, across, side, _ = (padded := np.pad(pixels, gap, constant_values=255)).shape
    whole = padded.swapaxes(1, 2).reshape(down * side, across * side)[:-1, :-1]
    left = _NAME * max(map(len, names), default=0)
    height, width = (_CELL * count for count in whole.shape)
    address = f"data:image/png;base64,{b64encode(_png(whole)).decode()}"
    place = f"x='{left}' width='{width}' height='{height}' preserveAspectRatio='none'"
    parts = [f"<image {place} style='image-rendering:pixelated' href='{address}'/>"]
    lines = [(_CELL * (row * side + line + 1) - 1, name) for row in range(down) for line, name in enumerate(names)]
    parts.append(f"<g font-size='{_CELL - 1}'>{''.join(_text(0, y, name) for y, name in lines)}</g>")
    legend = f"white: {short(low)}, black: {short(high)}"
    parts.append(_text(left, height + 2 * _CELL, legend))
    return _svg(height + 3 * _CELL, parts, max(left + width, left + _NAME * len(legend)))


def _png(pixels: np.ndarray) -> bytes:
    """Return a picture of gray pixels, uint8 [height, width], as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return file.getvalue()


def _legend(curves: pd.DataFrame) -> list[str]:
    middle = (_LEFT + _RIGHT) // 2
    named = zip(curves, _COLORS, (_LEFT, middle), strict=False)
    return [_text(place, 9, str(name), f" fill='{color}'") for name, color, place in named]


def _upward_axis(ticks: Sequence[float]) -> list[str]:
    """Draw horizontal grid lines and their values."""
    places = _scaled(np.array(ticks), ticks[0], ticks[-1], _BOTTOM, _TOP)
    lines = "".join(f"M{_LEFT} {y}h{_RIGHT - _LEFT}" for y in places)
    texts = "".join(_text(_LEFT - 4, y + 3, short(tick)) for y, tick in zip(places, ticks, strict=True))
    return [f"<path d='{lines}' stroke='#8885'/>", f"<g text-anchor='end'>{texts}</g>"]


def _across_axis(names: Sequence[str] | None, first: float, last: float) -> list[str]:
    """Draw the labels: names at both ends and in the middle, or numbers at both ends and round ones between."""
    if names is None:
        margin = _CLEAR * (last - first)
        inner = [tick for tick in _ticks(first, last) if first + margin <= tick <= last - margin]
        named = {place: short(place) for place in (first, *inner, last)}
    else:
        named = {float(place): names[place] for place in sorted({0, (len(names) - 1) // 2, len(names) - 1})}
    places = _scaled(np.array(list(named)), first, last, _LEFT, _RIGHT)
    texts = "".join(_text(x, _BOTTOM + 12, name) for x, name in zip(places, named.values(), strict=True))
    return [f"<g text-anchor='middle'>{texts}</g>"]


def _path(across: Sequence[int], heights: Sequence[int], gaps: np.ndarray) -> str:
    """Return a path of relative steps, which is shorter; a point between gaps is drawn as a short line."""
    drawn, before = [], None
    for x, y, gap in zip(across, heights, gaps, strict=True):
        if gap:
            before = None
            continue
        # The path goes back along the short line, so that the next step starts at the point.
        drawn.append(f"M{x - 2} {y}h4h-2" if before is None else f"l{x - before[0]} {y - before[1]}")
        before = x, y
    return "".join(drawn)


def _ticks(low: float, high: float) -> list[float]:
    """Return two to four round numbers; the first is at most ``low``, the last at least ``high``."""
    if not high > low:
        return [float(low)]
    rough = (high - low) / 2
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= rough * (1 - 1e-9))
    return [float(number * step) for number in range(math.floor(low / step), math.ceil(high / step) + 1)]


def _scaled(values: np.ndarray, low: float, high: float, first: int, last: int) -> list[int]:
    """Scale values to pixels, ``low`` to ``first`` and ``high`` to ``last``; gaps and constants to the middle."""
    shares = (values - low) / (high - low) if high > low else np.full(len(values), 0.5)
    return [int(pixel) for pixel in np.round(first + np.nan_to_num(shares, nan=0.5) * (last - first))]


def short(value: float) -> str:
    """Format a number in about four characters: 0.25, 12, 300k, 1.5M."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 10 * unit or (unit > 1e3 and abs(value) >= unit):
            return f"{value / unit:.4g}{name}"
    return f"{value:.4g}"


def _text(x: int, y: int, text: str, color: str = "") -> str:
    return f"<text x='{x}' y='{y}'{color}>{escape(text)}</text>"


def _svg(height: int, parts: Iterable[str], width: int = _RIGHT + 20) -> str:
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' font-size='10' "
        f"font-family='sans-serif' fill='#888'>{''.join(parts)}</svg>"
    )
