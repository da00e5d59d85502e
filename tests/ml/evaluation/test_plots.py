import numpy as np
import pandas as pd
import pytest

from ml.evaluation.calibration import reliability
from ml.evaluation.plots import png, reliability_plot


@pytest.fixture
def table() -> pd.DataFrame:
    return reliability(np.array([0, 1, 1, 1, 0]), np.array([0.1, 0.3, 0.6, 1.0, 0.12]))


def test_reliability_plot_shows_the_table(table: pd.DataFrame) -> None:
    shares, rows = reliability_plot("a title", table).axes
    diagonal, points = shares.get_lines()
    assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]
    assert points.get_xydata().tolist() == table[["mean_probability", "share_positive"]].to_numpy().tolist()
    assert [bar.get_height() for bar in rows.patches] == table["rows"].tolist()
    assert [bar.get_x() for bar in rows.patches] == table["low"].tolist()
    assert [bar.get_x() + bar.get_width() for bar in rows.patches] == pytest.approx(table["high"].tolist())
    labels = (shares.get_title(), shares.get_ylabel(), rows.get_xlabel(), rows.get_ylabel())
    assert labels == ("a title", "share of positives", "predicted probability", "rows")


def test_reliability_plot_is_a_small_png(table: pd.DataFrame) -> None:
    picture = png(reliability_plot("a title", table))
    assert picture.startswith(b"\x89PNG\r\n")
    assert len(picture) < 60_000
