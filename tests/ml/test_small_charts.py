import base64
import io
import re
from xml.etree import ElementTree  # of our own making, not from outside

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from ml.small_charts import bar_chart, heat_maps, line_chart, short

_SVG = "{http://www.w3.org/2000/svg}"


def points_of(svg: str) -> list[list[tuple[int, int]]]:
    """Return the points of each curve in pixels, without the short lines at the start of its parts."""
    found = []
    for line in ElementTree.fromstring(svg).iter(f"{_SVG}path"):
        points: list[tuple[int, int]] = []
        for command, x, y in re.findall(r"([Ml])(-?\d+) (-?\d+)", line.attrib["d"]):
            here = (int(x) + 2, int(y)) if command == "M" else (points[-1][0] + int(x), points[-1][1] + int(y))
            points.append(here)
        found.append(points)
    return found[1:]  # the first are the lines of the axis


def texts_of(svg: str) -> list[str]:
    return [text.text or "" for text in ElementTree.fromstring(svg).iter(f"{_SVG}text")]


def test_two_curves_on_one_scale() -> None:
    svg = line_chart(pd.DataFrame({"train": [1.0, 0.5, 0.0], "val": [0.75, 0.75, 0.25]}, index=[1, 2, 3]))
    # 250 pixels across from 40, 76 up from 90: the greatest value is at 14.
    assert points_of(svg) == [[(40, 14), (165, 52), (290, 90)], [(40, 33), (165, 33), (290, 71)]]
    assert texts_of(svg) == ["0", "0.5", "1", "1", "2", "3", "train", "val"]


def test_one_point_is_in_the_middle() -> None:
    svg = line_chart(pd.DataFrame({"loss": [0.3]}, index=[1]))
    assert points_of(svg) == [[(165, 52)]]
    assert texts_of(svg) == ["0.3", "1", "loss"]


def test_a_long_curve_keeps_its_ends() -> None:
    [points] = points_of(line_chart(pd.DataFrame({"loss": np.arange(1001.0)})))
    assert len(points) == 36
    assert (points[0], points[-1]) == ((40, 90), (290, 14))


def test_numbers_along_the_axes_are_round() -> None:
    svg = line_chart(pd.DataFrame({"ratings": [295_461.0, 1_204.0, 11_320.0]}, index=[0.0, 33.0, 71.0]))
    assert texts_of(svg) == ["0", "200k", "400k", "0", "50", "71", "ratings"]


def test_names_of_the_index_are_at_the_ends_and_in_the_middle() -> None:
    months = pd.period_range("2000-04", "2003-02", freq="M").astype(str)
    svg = line_chart(pd.DataFrame({"ratings": np.arange(35)}, index=months))
    assert texts_of(svg)[-4:] == ["2000-04", "2001-09", "2003-02", "ratings"]


@pytest.mark.parametrize("gap", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_a_gap(gap: float) -> None:
    svg = line_chart(pd.DataFrame({"share": [0.0, 1.0, gap, 0.5, gap]}))
    assert points_of(svg) == [[(40, 90), (102, 14), (228, 52)]]
    assert svg.count("h4h-2") == 2  # two parts, the second one a point
    assert texts_of(svg)[:3] == ["0", "0.5", "1"]


@pytest.mark.parametrize(
    "curves",
    [
        pd.DataFrame({"loss": []}),
        pd.DataFrame({"loss": [np.nan, np.inf]}),
        pd.DataFrame({"a": [1.0], "b": [2.0]}, index=[np.nan]),
    ],
)
def test_curves_without_a_number_say_so(curves: pd.DataFrame) -> None:
    assert texts_of(line_chart(curves))[0] == "no data"


def test_extreme_numbers_are_drawn() -> None:
    for values in ([1e-300, 2e-300], [-1e300, 1e300], [5e-324, 5e-324], [1e15, 1e15 + 1]):
        assert len(points_of(line_chart(pd.DataFrame({"x": values})))[0]) == 2


@pytest.mark.parametrize("columns", [0, 3])
def test_other_numbers_of_curves_are_refused(columns: int) -> None:
    with pytest.raises(ValueError, match=f"one or two curves, got {columns}"):
        line_chart(pd.DataFrame(np.zeros((2, columns))))


def test_bars() -> None:
    svg = bar_chart(pd.Series({"Drama & more": 1500, "Comedy": 750, "<Western>": 0}))
    [bars] = ElementTree.fromstring(svg).iter(f"{_SVG}path")
    # The longest takes what names (90) and amounts (50) leave of 290 pixels.
    assert bars.attrib["d"] == "M90 7h150M90 22h75M90 37h0"
    assert texts_of(svg) == ["Drama & more", "1,500", "Comedy", "750", "<Western>", "0"]


def test_amounts_that_are_no_counts() -> None:
    assert texts_of(bar_chart(pd.Series({"zip": 0.123456})))[1] == "0.1235"


def test_bars_without_an_amount_have_no_length() -> None:
    svg = bar_chart(pd.Series({"zip": np.nan, "age": 2.0, "gender": np.inf, "user_id": -1.0}))
    [bars] = ElementTree.fromstring(svg).iter(f"{_SVG}path")
    assert bars.attrib["d"] == "M90 7h0M90 22h150M90 37h0M90 52h0"
    assert texts_of(svg)[1::2] == ["–", "2", "–", "-1"]
    assert texts_of(bar_chart(pd.Series(dtype=float))) == ["no data"]


def test_short_numbers() -> None:
    numbers = {0.25: "0.25", 1: "1", 2003: "2003", 9999: "9999", 12_000: "12k", 295_461: "295.5k", 1.5e6: "1.5M"}
    assert {number: short(number) for number in numbers} == numbers


def test_heat_maps_have_a_pixel_for_each_number() -> None:
    """Two rows of one map; 255 is white, a row of white pixels is between them."""
    maps = np.array([[[[1.0, 1.5], [1.25, 1.2]]], [[[np.nan, 1.0], [1.1, 1.4]]]])
    svg = heat_maps(maps, ["a & b", "c"])
    assert texts_of(svg) == ["a & b", "c", "a & b", "c", "white: 1, black: 1.5"]
    [image] = ElementTree.fromstring(svg).iter(f"{_SVG}image")
    data = base64.b64decode(image.attrib["href"].removeprefix("data:image/png;base64,"))
    pixels = matplotlib.image.imread(io.BytesIO(data), format="png")
    expected = [[255, 0], [128, 153], [255, 255], [255, 255], [204, 51]]
    assert np.round(pixels * 255).tolist() == expected
    assert (image.attrib["width"], image.attrib["height"]) == ("18", "45")


def test_heat_maps_side_by_side() -> None:
    maps = np.array([[[[1.0]], [[0.0]], [[0.6]]]])
    [image] = ElementTree.fromstring(heat_maps(maps, ["x"])).iter(f"{_SVG}image")
    data = base64.b64decode(image.attrib["href"].partition(",")[2])
    pixels = matplotlib.image.imread(io.BytesIO(data), format="png")
    assert np.round(pixels * 255).tolist() == [[0, 255, 255, 255, 102]]


def test_heat_maps_without_a_range() -> None:
    assert "<image" in heat_maps(np.zeros((1, 1, 2, 2)), ["x", "y"])
    assert texts_of(heat_maps(np.full((1, 1, 2, 2), np.nan), ["x", "y"])) == ["no data"]
