import numpy as np
import pandas as pd
import pytest

from ml.evaluation.drift_plots import intakes_plot, stability_plot
from ml.evaluation.plots import png


def test_bars_and_limits() -> None:
    fields = pd.DataFrame(
        {"field": ["zip", "age", "rating_month"], "stability_index": [0.3, 0.1, 5.0], "limit": [0.25, 0.5, np.nan]}
    )
    figure = stability_plot("a title", fields)
    [axes] = figure.axes
    assert [bar.get_width() for bar in axes.patches] == [0.3, 0.1, 5.0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["zip", "age", "rating_month"]
    [marks] = axes.collections
    assert np.ma.filled(marks.get_offsets(), np.nan)[:2].tolist() == [[0.25, 0], [0.5, 1]]
    assert np.isnan(np.ma.filled(marks.get_offsets(), np.nan)[2, 0])
    assert axes.get_title() == "a title"
    assert png(figure).startswith(b"\x89PNG\r\n")


@pytest.mark.parametrize("nights", [0, 1, 60])
def test_intakes(nights: int) -> None:
    totals = pd.DataFrame(
        {"ratings": 100, "users": 10, "movies": 20, "positive_share": 0.5}, index=range(nights + 1)
    ).rename_axis("intake")
    figure = intakes_plot("a title", totals)
    shares, counts = figure.axes
    assert [line.get_label() for line in counts.get_lines()] == ["ratings", "users", "movies"]
    assert shares.get_lines()[0].get_xdata().tolist() == list(range(nights + 1))
    assert counts.get_lines()[0].get_ydata().tolist() == [100] * nights
    assert len(png(figure)) < 60_000
