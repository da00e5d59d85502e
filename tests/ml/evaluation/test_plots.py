import numpy as np
import pandas as pd
import pytest

from ml.evaluation.attention import AttentionMaps
from ml.evaluation.calibration import reliability
from ml.evaluation.plots import attention_plot, comparison_plot, reliability_plot


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


def test_comparison_plot_shows_the_table_from_the_top_down() -> None:
    table = pd.DataFrame({"auc": [0.8, 0.7], "log_loss": [0.5, np.nan]}, index=["autoint", "movie_mean"])
    figure = comparison_plot("a title", table)
    auc, log_loss = figure.axes
    assert [bar.get_width() for bar in auc.patches] == [0.8, 0.7]
    assert [text.get_text() for text in log_loss.texts] == ["0.5000", ""]
    assert (auc.get_xlabel(), log_loss.get_xlabel()) == ("auc", "log_loss")
    assert [label.get_text() for label in auc.get_yticklabels()] == ["autoint", "movie_mean"]
    assert auc.yaxis_inverted()
    assert auc.get_xlim()[1] > 0.8


def test_attention_plot_has_a_panel_for_each_layer_and_head() -> None:
    weights = np.array([[[[0.75, 0.25], [0.5, 0.5]]], [[[1.0, 0.125], [0.125, 0.875]]]])
    first, second, scale = attention_plot("a title", AttentionMaps(("user_id", "genre1"), weights)).axes
    assert [axes.get_title() for axes in (first, second)] == ["layer 1, head 1", "layer 2, head 1"]
    for axes, expected in ((first, weights[0, 0]), (second, weights[1, 0])):
        [image] = axes.get_images()
        assert image.get_array().tolist() == expected.tolist()
        assert image.get_clim() == (0.125, 1)
        assert [label.get_text() for label in axes.get_yticklabels()] == ["user_id", "genre1"]
    assert [label.get_text() for label in second.get_xticklabels()] == ["user_id", "genre1"]
    assert scale.get_ylabel() == "mean attention weight"
