from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ml.inference import shards
from ml.inference.engine.shortlist import Method
from ml.inference.engine.top_k import TopLists
from ml.inference.scorer import Scorer
from ml.inference.shards import Found, KeptShards, Means, Search, search_all
from ml.models.bundle import ModelBundle

MOMENTS = [(2001, 3), (2002, 6)]


@pytest.fixture
def request_of(bundle: ModelBundle) -> Search:
    """The best movies of all users who have seen every seventh one."""
    scorer = Scorer(bundle)
    users, movies = np.nonzero(np.arange(len(bundle.users))[:, None] % 7 == np.arange(len(bundle.movies)) % 7)
    return Search(scorer, scorer.matrix(users, movies, bool), MOMENTS, 10, "brute_force", 42)


def test_work_for_several_machines_is_divided_where_it_is_worth_it(
    request_of: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(replace(request_of, parts=4).shards) == 1
    monkeypatch.setattr(shards, "FEWEST_USERS", 50)
    assert len(replace(request_of, parts=4).shards) == 4
    assert len(replace(request_of, parts=400).shards) == request_of.seen.shape[0] // 50


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_USERS", 100)


def assert_equal(found: Found, expected: Found) -> None:
    for (lists, _), (own, _) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(lists.movies, own.movies)
        np.testing.assert_allclose(lists.scores, own.scores, rtol=1e-6)


@pytest.mark.parametrize("method", ["brute_force", "shortlist"])
def test_lists_of_shards_are_those_of_one_search(
    method: Method, request_of: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = search_all(replace(request_of, method=method), lambda done: None)
    monkeypatch.setattr(shards, "SHARD_USERS", 100)
    done: list[int] = []
    found = search_all(replace(request_of, method=method), done.append)
    assert_equal(found, whole)
    users, movies = request_of.seen.shape
    assert done == sorted(done)
    assert done[-1] == users * len(MOMENTS)
    for _, report in found:
        assert report.shards == -(-users // 100)
        assert report.pairs_total == users * movies


def test_shards_are_of_nearly_one_size(request_of: Search, small_shards: None) -> None:
    sizes = [len(users) for users in request_of.shards]
    assert max(sizes) <= 100
    assert max(sizes) - min(sizes) <= 1
    assert np.concatenate(request_of.shards).tolist() == list(range(request_of.seen.shape[0]))


class CrashError(Exception):
    """Stands for a crash."""


def test_finished_shards_survive_an_interruption(
    request_of: Search, small_shards: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = search_all(request_of, lambda done: None)
    searched: list[int] = []
    real = Search.shard

    def shard(self: Search, users: np.ndarray, *rest: object) -> Found:
        searched.append(int(users[0]))
        if len(searched) == 3:
            raise CrashError
        return real(self, users)

    monkeypatch.setattr(Search, "shard", shard)
    with pytest.raises(CrashError):
        search_all(request_of, lambda done: None, Means(tmp_path))
    done: list[int] = []
    assert_equal(search_all(request_of, done.append, Means(tmp_path)), expected)
    starts = [int(users[0]) for users in request_of.shards]
    assert searched == [*starts[:3], *starts[2:]]
    assert done[0] == len(MOMENTS) * starts[2]
    assert not list(tmp_path.rglob("*.npz"))


def test_a_damaged_shard_is_searched_again(request_of: Search, small_shards: None, tmp_path: Path) -> None:
    folder = tmp_path / f"{request_of.fingerprint()}-"
    folder.mkdir()
    (folder / "0.npz").write_bytes(b"PK no archive")
    assert_equal(search_all(request_of, lambda done: None, Means(tmp_path)), search_all(request_of, lambda done: None))


def test_shards_of_other_code_are_searched_again(
    request_of: Search, small_shards: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = search_all(request_of, lambda done: None)
    wrong = [(TopLists.empty(len(users), 10), report) for users in request_of.shards[:1] for _, report in expected]
    KeptShards(tmp_path, f"{request_of.fingerprint()}-earlier").keep(0, wrong)
    assert_equal(search_all(request_of, lambda done: None, Means(tmp_path, code="now")), expected)


def test_another_search_starts_anew(request_of: Search, small_shards: None, tmp_path: Path) -> None:
    bundle = request_of.scorer.bundle
    seen = request_of.seen.copy()
    seen.indices[0] = 1 - seen.indices[0]
    others = [
        replace(request_of, seed=1),
        replace(request_of, length=9),
        replace(request_of, method="shortlist"),
        replace(request_of, moments=MOMENTS[:1]),
        replace(request_of, seen=seen),
        replace(request_of, scorer=Scorer(replace(bundle, users=bundle.users.assign(age=1)))),
    ]
    fingerprints = {search.fingerprint() for search in [request_of, *others]}
    assert len(fingerprints) == 1 + len(others)
    (tmp_path / "of another search").mkdir()
    search_all(request_of, lambda done: None, Means(tmp_path))
    assert not list(tmp_path.iterdir())
