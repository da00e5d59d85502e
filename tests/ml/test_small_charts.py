from xml.etree import ElementTree  # of our own making, not from outside

import numpy as np
import pandas as pd
import pytest

from ml.small_charts import bar_chart, line_chart

_SVG = "{http://www.w3.org/2000/svg}"


def points_of(svg: str) -> list[list[tuple[int, int]]]:
    """The corners of each curve in pixels."""
    lines = ElementTree.fromstring(svg).iter(f"{_SVG}polyline")
    return [
        [(int(x), int(y)) for x, y in (pair.split(",") for pair in line.attrib["points"].split())] for line in lines
    ]


def texts_of(svg: str) -> list[str]:
    return [text.text or "" for text in ElementTree.fromstring(svg).iter(f"{_SVG}text")]


def test_two_curves_on_one_scale() -> None:
    svg = line_chart(pd.DataFrame({"train": [1.0, 0.5, 0.0], "val": [0.75, 0.75, 0.25]}, index=[1, 2, 3]))
    # 250 pixels across from 40, 76 up from 90: the greatest value is at 14.
    assert points_of(svg) == [[(40, 14), (165, 52), (290, 90)], [(40, 33), (165, 33), (290, 71)]]
    assert texts_of(svg) == ["train", "val", "1", "0", "1", "3"]


def test_one_point_is_in_the_middle() -> None:
    assert points_of(line_chart(pd.DataFrame({"loss": [0.3]}, index=[1]))) == [[(165, 52)]]


def test_a_long_curve_keeps_its_ends() -> None:
    [points] = points_of(line_chart(pd.DataFrame({"loss": np.arange(1000.0)})))
    assert len(points) == 16
    assert (points[0], points[-1]) == ((40, 90), (290, 14))


def test_bars() -> None:
    svg = bar_chart(pd.Series({"Drama & more": 1500, "Comedy": 750, "<Western>": 0}))
    [bars] = ElementTree.fromstring(svg).iter(f"{_SVG}path")
    # The longest takes what names (90) and amounts (50) leave of 290 pixels.
    assert bars.attrib["d"] == "M90 7h150M90 22h75M90 37h0"
    assert texts_of(svg) == ["Drama & more", "1,500", "Comedy", "750", "<Western>", "0"]


def test_amounts_that_are_no_counts() -> None:
    assert texts_of(bar_chart(pd.Series({"zip": 0.123456})))[1] == "0.1235"


@pytest.mark.parametrize(
    "curves",
    [
        pd.DataFrame({"loss": []}),
        pd.DataFrame(index=[1]),
        pd.DataFrame([[1, 2, 3]]),
        pd.DataFrame({"loss": [1.0, np.nan]}),
    ],
)
def test_curves_that_cannot_be_drawn(curves: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="one or two curves of finite numbers"):
        line_chart(curves)


@pytest.mark.parametrize("amounts", [[], [-1.0], [np.nan]])
def test_amounts_that_cannot_be_drawn(amounts: list[float]) -> None:
    with pytest.raises(ValueError, match="amounts of zero or more"):
        bar_chart(pd.Series(amounts, dtype=float))
