"""The search is held against brute force on catalogues whose structure is known, and on a network."""

from threading import Lock

import keras
import numpy as np
import pytest
from scipy.sparse import csr_array

from ml.features.collaborative_tables import CollaborativeTables
from ml.inference.engine.forward import forward_of
from ml.inference.engine.pair_numbers import PairNumbers
from ml.inference.engine.shortlist import AUDITED, SearchReport, search, search_by_brute_force
from ml.inference.engine.top_k import MISSING, TopLists
from ml.models.autoint import Inputs, build_model, with_collaborative
from ml.models.config import AutoIntConfig

USERS, MOVIES, LENGTH = 2000, 400, 10


class Table:
    """A catalogue that counts what it is asked for."""

    def __init__(self, logits: np.ndarray) -> None:
        self.logits, self.shape, self.asked = logits.astype(np.float32), logits.shape, 0
        self._counting = Lock()

    def pairs(self, users: np.ndarray, movies: np.ndarray) -> np.ndarray:
        with self._counting:
            self.asked += len(users)
        return self.logits[users, movies]

    def rows(self, users: np.ndarray) -> np.ndarray:
        with self._counting:
            self.asked += len(users) * self.shape[1]
        return self.logits[users]

    def numbers(self, users: np.ndarray, movies: np.ndarray | slice) -> np.ndarray:
        return np.empty((len(users), 0, len(np.arange(MOVIES)[movies])), np.float32)


def low_rank(rank: int, noise: float) -> np.ndarray:
    rng = np.random.default_rng(1)
    tastes = rng.normal(size=(USERS, rank)) @ rng.normal(size=(rank, MOVIES)) / np.sqrt(rank)
    return rng.normal(size=MOVIES) + tastes + noise * rng.normal(size=(USERS, MOVIES))


def some_seen() -> csr_array:
    """A tenth of all pairs; one user has seen all but three movies, one all."""
    seen = np.random.default_rng(2).random((USERS, MOVIES)) < 0.1
    seen[5, 3:] = True
    seen[5, :3] = False
    seen[6] = True
    return csr_array(seen)


def silent(done: int) -> None:
    pass


def by_sorting(logits: np.ndarray, seen: csr_array) -> list[list[int]]:
    """Every list by sorting the whole row, equal scores by position."""
    hidden = seen.toarray().astype(bool)
    probabilities = np.where(hidden, -1, 1 / (1 + np.exp(-logits.astype(np.float32))))
    ranked = np.argsort(-probabilities, axis=1, kind="stable")[:, :LENGTH]
    lists = np.where(np.take_along_axis(hidden, ranked, axis=1), MISSING, ranked)
    return np.pad(lists, ((0, 0), (0, LENGTH - lists.shape[1])), constant_values=MISSING).tolist()


def run(logits: np.ndarray, seed: int = 0) -> tuple[TopLists, SearchReport, Table]:
    table = Table(logits)
    [(lists, report)] = search([table], some_seen(), LENGTH, seed, silent)
    return lists, report, table


@pytest.mark.parametrize(("rank", "noise"), [(1, 0.0), (5, 0.0), (12, 0.01), (5, 0.1)])
def test_equals_sorting_whole_rows(rank: int, noise: float) -> None:
    logits = low_rank(rank, noise)
    lists, report, table = run(logits)
    assert lists.movies.tolist() == by_sorting(logits, some_seen())
    assert (report.method, report.differences, report.audited_users) == ("shortlist", 0, AUDITED)
    assert report.pairs_scored == table.asked < 0.4 * USERS * MOVIES
    assert report.pairs_total == USERS * MOVIES


def test_noisier_catalogues_cost_more() -> None:
    costs = [run(low_rank(5, noise))[1].pairs_scored for noise in (0.0, 0.05, 0.2)]
    assert costs == sorted(costs)
    assert costs[0] < costs[-1]


def test_no_structure_at_all_is_still_right() -> None:
    logits = np.random.default_rng(4).normal(size=(USERS, MOVIES))
    lists, report, table = run(logits)
    assert lists.movies.tolist() == by_sorting(logits, some_seen())
    assert report.pairs_scored == table.asked > 0.5 * USERS * MOVIES


def test_hidden_favourites_are_found_by_the_audit() -> None:
    # Every fourth user loves one movie that nothing else tells of: predictions miss it, audits do not.
    logits = low_rank(3, 0.0)
    rng = np.random.default_rng(5)
    fans = rng.permutation(USERS)[: USERS // 4]
    logits[fans, rng.integers(0, MOVIES, len(fans))] += 30
    lists, report, table = run(logits)
    assert lists.movies.tolist() == by_sorting(logits, some_seen())
    assert report.pairs_scored == table.asked


def test_equal_scores_are_ranked_by_position() -> None:
    logits = np.round(low_rank(4, 0.0) * 2) / 2
    lists, _, _ = run(logits)
    assert lists.movies.tolist() == by_sorting(logits, some_seen())


def test_the_seed_chooses_the_sample_not_the_lists() -> None:
    logits = low_rank(6, 0.02)
    one, again, other = run(logits, seed=1), run(logits, seed=1), run(logits, seed=2)
    assert one[1] == again[1]
    assert one[0].movies.tolist() == again[0].movies.tolist() == other[0].movies.tolist()
    assert one[1].pairs_scored != other[1].pairs_scored


def test_few_users_are_scored_in_full() -> None:
    table = Table(low_rank(3, 0.0)[:500])
    [(lists, report)] = search([table], some_seen()[:500], LENGTH, 0, silent)
    assert lists.movies.tolist() == by_sorting(table.logits, some_seen()[:500])
    assert (report.method, report.pairs_scored) == ("brute_force", 500 * MOVIES)


def test_brute_force_equals_sorting_and_reports_progress() -> None:
    done: list[int] = []
    logits = low_rank(5, 0.3)
    [(lists, report)] = search_by_brute_force([Table(logits)], some_seen(), LENGTH, done.append)
    assert lists.movies.tolist() == by_sorting(logits, some_seen())
    assert report.pairs_scored == USERS * MOVIES
    assert done == sorted(done)
    assert done[-1] == USERS


def test_further_moments_cost_less_and_are_right() -> None:
    first = low_rank(5, 0.01)
    drift = np.random.default_rng(6).normal(size=MOVIES)
    second = Table(0.9 * first + drift)
    done: list[int] = []
    (_, before), (lists, report) = search([Table(first), second], some_seen(), LENGTH, 0, done.append)
    assert lists.movies.tolist() == by_sorting(second.logits, some_seen())
    assert report.method == "shortlist"
    assert report.pairs_scored == second.asked < 0.7 * before.pairs_scored
    assert done[-1] == 2 * USERS


def test_a_further_moment_of_other_tastes_is_still_right() -> None:
    second = Table(np.random.default_rng(7).normal(size=(USERS, MOVIES)))
    _, (lists, report) = search([Table(low_rank(5, 0.01)), second], some_seen(), LENGTH, 0, silent)
    assert lists.movies.tolist() == by_sorting(second.logits, some_seen())
    assert report.pairs_scored == second.asked


def test_brute_force_of_several_moments() -> None:
    tables = [Table(low_rank(5, 0.3)), Table(low_rank(2, 0.1))]
    found = search_by_brute_force(tables, some_seen(), LENGTH, silent)
    assert [lists.movies.tolist() for lists, _ in found] == [by_sorting(t.logits, some_seen()) for t in tables]


@pytest.mark.parametrize("movies", [1, 8, 12])
def test_catalogues_hardly_longer_than_a_list(movies: int) -> None:
    logits, seen = low_rank(3, 0.1)[:, :movies], some_seen()[:, :movies]
    [(lists, _)] = search([Table(logits)], seen, LENGTH, 0, silent)
    assert lists.movies.tolist() == by_sorting(logits, seen)


class Described(Table):
    """A catalogue that tells numbers on which its logits depend, [users, numbers, movies]."""

    def __init__(self, logits: np.ndarray, numbers: np.ndarray) -> None:
        super().__init__(logits)
        self._numbers = numbers.astype(np.float32)

    def numbers(self, users: np.ndarray, movies: np.ndarray | slice) -> np.ndarray:
        return self._numbers[users][:, :, movies]


def of_high_rank(noise: float) -> Described:
    """Logits that are a smooth function of three numbers, themselves of a high rank."""
    rng = np.random.default_rng(8)
    users, movies = rng.normal(size=(USERS, 3, 30)), rng.normal(size=(3, 30, MOVIES))
    numbers = np.einsum("usk,skm->usm", users, movies) / np.sqrt(30)
    first, second, third = numbers.transpose(1, 0, 2)
    logits = 2 * first - second * third + np.maximum(third, 0) + noise * rng.normal(size=first.shape)
    return Described(logits, numbers)


def test_known_numbers_save_most_of_the_pairs() -> None:
    table = of_high_rank(0.01)
    [(lists, report)] = search([table], some_seen(), LENGTH, 0, silent)
    assert lists.movies.tolist() == by_sorting(table.logits, some_seen())
    assert (report.method, report.attempts) == ("shortlist", 1)
    assert report.pairs_scored == table.asked
    share_of_audit = AUDITED / USERS
    assert report.pairs_scored < (share_of_audit + 0.15) * USERS * MOVIES
    assert run(table.logits)[1].pairs_scored > 2 * report.pairs_scored


@pytest.mark.parametrize("wrong", ["unrelated", "constant"])
def test_numbers_that_tell_nothing_do_no_harm(wrong: str) -> None:
    rng = np.random.default_rng(9)
    numbers = rng.normal(size=(USERS, 2, MOVIES)) if wrong == "unrelated" else np.full((USERS, 2, MOVIES), 3.0)
    table = Described(low_rank(5, 0.01), numbers)
    [(lists, report)] = search([table], some_seen(), LENGTH, 0, silent)
    assert lists.movies.tolist() == by_sorting(table.logits, some_seen())
    assert report.pairs_scored == table.asked < 0.4 * USERS * MOVIES


def test_favourites_hidden_from_the_numbers_are_found_by_the_audit() -> None:
    table = of_high_rank(0.01)
    rng = np.random.default_rng(5)
    fans = rng.permutation(USERS)[: USERS // 4]
    table.logits[fans, rng.integers(0, MOVIES, len(fans))] += 30
    [(lists, report)] = search([table], some_seen(), LENGTH, 0, silent)
    assert lists.movies.tolist() == by_sorting(table.logits, some_seen())
    assert report.pairs_scored == table.asked


def test_a_further_moment_with_numbers() -> None:
    first = of_high_rank(0.01)
    second = Described(0.8 * first.logits + np.random.default_rng(6).normal(size=MOVIES), first._numbers)
    (_, before), (lists, report) = search([first, second], some_seen(), LENGTH, 0, silent)
    assert lists.movies.tolist() == by_sorting(second.logits, some_seen())
    assert report.pairs_scored == second.asked < before.pairs_scored


class OfNetwork:
    """The catalogue of a network: rows are user, movie, a feature of each; the movie's is its index modulo 9."""

    def __init__(self, network: keras.Model) -> None:
        self.shape = (USERS, MOVIES)
        self._forward, self._numbers = forward_of(network), PairNumbers(network)

    def pairs(self, users: np.ndarray, movies: np.ndarray) -> np.ndarray:
        return self._forward.logits(np.stack([users, movies, users % 6, movies % 9], axis=1).astype(np.int32))

    def rows(self, users: np.ndarray) -> np.ndarray:
        pairs = np.repeat(users, MOVIES), np.tile(np.arange(MOVIES), len(users))
        return self.pairs(*pairs).reshape(len(users), MOVIES)

    def numbers(self, users: np.ndarray, movies: np.ndarray | slice) -> np.ndarray:
        return self._numbers.of_grid(users, movies)


def test_a_network_with_collaborative_features() -> None:
    rng = np.random.default_rng(10)
    config = AutoIntConfig(embed_dim=4, num_layers=1, num_heads=2, head_dim=2)
    inputs = Inputs((USERS, MOVIES, 6, 9), [2, 3], centres=[0.0, 0.0], scales=[18.0, 12.0])
    network = build_model("autoint", inputs, config, seed=1)
    for weight in network.trainable_weights:
        weight.assign(rng.normal(0, 0.7, weight.shape))
    sides = [rng.normal(size=(size, 13)).astype(np.float32) for size in (USERS, MOVIES)]
    catalogue = OfNetwork(with_collaborative(network, CollaborativeTables(("a", "b"), (9, 4), *sides), (0, 1)))
    [(lists, report)] = search([catalogue], some_seen(), LENGTH, 0, silent)
    [(exact, _)] = search_by_brute_force([catalogue], some_seen(), LENGTH, silent)
    assert lists.differences(exact) == 0
    assert (report.method, report.attempts) == ("shortlist", 1)
    assert report.pairs_scored < 0.6 * report.pairs_total
