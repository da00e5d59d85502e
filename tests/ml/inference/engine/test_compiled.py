from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba.core import caching, config

from ml.inference.engine.compiled import compile_loops


def double(numbers: np.ndarray) -> None:
    for i in range(len(numbers)):
        numbers[i] *= 2


def assert_doubles(compiled: Callable[[np.ndarray], None]) -> None:
    numbers = np.array([1.0, 2.5])
    compiled(numbers)
    assert numbers.tolist() == [2.0, 5.0]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    return tmp_path


def test_compiles_where_nothing_can_be_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a user without a home who cannot write the project."""
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    compiled = compile_loops(double)
    assert compiled.stats.cache_path is None
    assert_doubles(compiled)


def test_keeps_what_was_compiled(cache: Path) -> None:
    assert_doubles(compile_loops(double))
    again = compile_loops(double)
    assert_doubles(again)
    assert again.stats.cache_path.startswith(str(cache))
    assert sum(again.stats.cache_hits.values()) == 1


def test_computes_when_the_disk_takes_no_more(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(caching.IndexDataCacheFile, "save", save)
    assert_doubles(compile_loops(double))


@pytest.mark.parametrize("damage", [b"", b"no index", b"\x80\x05"])
def test_a_damaged_cache_is_compiled_anew(damage: bytes, cache: Path) -> None:
    assert_doubles(compile_loops(double))
    for path in cache.rglob("*.nb?"):
        path.write_bytes(damage)
    assert_doubles(compile_loops(double))


def test_an_unreadable_cache_is_compiled_anew(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_doubles(compile_loops(double))

    def load(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(caching.IndexDataCacheFile, "load", load)
    assert_doubles(compile_loops(double))
