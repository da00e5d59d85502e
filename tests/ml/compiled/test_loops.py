from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba.core import caching, config

from ml.compiled import loops
from ml.compiled.loops import compile_loop, exp2


def double(numbers: np.ndarray) -> None:
    for i in range(len(numbers)):
        numbers[i] *= 2


def assert_doubles(loop: Callable[[np.ndarray], None]) -> None:
    numbers = np.array([1.0, 2.5])
    loop(numbers)
    assert numbers.tolist() == [2.0, 5.0]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    return tmp_path


def test_compiles_where_nothing_can_be_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a user without a home who cannot write the project."""
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    loop = compile_loop(double)
    assert loop.stats.cache_path is None
    assert_doubles(loop)


def test_keeps_what_was_compiled(cache: Path) -> None:
    assert_doubles(compile_loop(double))
    again = compile_loop(double)
    assert_doubles(again)
    assert again.stats.cache_path.startswith(str(cache))
    assert sum(again.stats.cache_hits.values()) == 1


def test_computes_when_the_disk_takes_no_more(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(caching.IndexDataCacheFile, "save", save)
    assert_doubles(compile_loop(double))


@pytest.mark.parametrize("damage", [b"", b"no index", b"\x80\x05"])
def test_a_damaged_cache_is_compiled_anew(damage: bytes, cache: Path) -> None:
    assert_doubles(compile_loop(double))
    for path in cache.rglob("*.nb?"):
        path.write_bytes(damage)
    assert_doubles(compile_loop(double))


def test_an_unreadable_cache_is_compiled_anew(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_doubles(compile_loop(double))

    def load(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(caching.IndexDataCacheFile, "load", load)
    assert_doubles(compile_loop(double))


def test_a_change_of_shared_functions_discards_what_was_compiled(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_doubles(compile_loop(double))
    (cache / "loops.py").write_text("# exp2 is different\n")
    monkeypatch.setattr(loops, "_PACKAGE", cache)
    again = compile_loop(double)
    assert_doubles(again)
    assert not again.stats.cache_hits


def test_powers_of_two() -> None:
    for exponent in (0.0, -0.5, -1.0, -7.3, -126.0):
        assert exp2(np.float32(exponent)) == pytest.approx(2.0**exponent, rel=3e-7)
    assert exp2(np.float32(-1000)) == pytest.approx(2.0**-126)
