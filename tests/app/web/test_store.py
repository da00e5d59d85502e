"""Test the thread that keeps the web app's models loaded and up to date."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from upath import UPath

from app.web import store
from ml.models.bundle import ModelBundle
from ml.published.snapshot import Published
from tests.published_home import archive, publish


class _StopError(Exception):
    """Ends the thread's loop in a test."""


def rounds(opened: Any, monkeypatch: pytest.MonkeyPatch, *between: Any) -> None:
    """Run the loop; do something after each round, and end it after the last."""
    waiting = iter([*between, None])
    left = len(between)

    def sleep(seconds: float) -> None:
        nonlocal left
        assert seconds == store.REFRESH_SECONDS
        if not left:
            raise _StopError
        left -= 1
        next(waiting)()

    monkeypatch.setattr(store, "time", SimpleNamespace(sleep=sleep))
    with pytest.raises(_StopError):
        store._refresh(opened)


def test_a_bad_bundle_at_the_start_keeps_nothing_from_being_shown(
    own_home: Path,
    bundles: dict[str, ModelBundle],
    tables: dict[str, pd.DataFrame],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (archive(own_home, "autoint") / "3" / "bundle.zip").write_bytes(b"bad")
    opened = Published(UPath(own_home))
    rounds(opened, monkeypatch, lambda: publish(own_home, "autoint", "4", bundles["autoint"], tables["ratings"]))
    assert opened.current.models["autoint"].version == "4"
    assert all(model.live.has_explanations for model in opened.current.models.values())
    assert any("small, autoint: " in line and "bundle.zip" in line for line in caplog.messages)


@pytest.mark.parametrize("error", [AttributeError("x"), MemoryError(), RecursionError(), OSError("no route")])
def test_the_thread_survives_whatever_goes_wrong(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    warmed: list[str] = []

    def fail() -> list[str]:
        raise error

    def model(name: str) -> SimpleNamespace:
        def warm_up(moment: tuple[int, int]) -> None:
            warmed.append(name)
            if name == "a":
                raise error

        live = SimpleNamespace(warm_up=warm_up, explanations=None)
        return SimpleNamespace(live=live, lists=SimpleNamespace(moment=(2003, 2)))

    models = {name: model(name) for name in "ab"}
    opened = SimpleNamespace(dataset="films", refresh=fail, current=SimpleNamespace(models=models))
    rounds(opened, monkeypatch, lambda: None)
    assert warmed == ["a", "b", "a", "b"]
    assert [line.split(":")[0] for line in caplog.messages] == ["films", "films, a"] * 2
