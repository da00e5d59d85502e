import numpy as np

from ml.inference.engine import outline
from ml.inference.engine.outline import Outline

USERS, MOVIES, SAMPLED = 40, 90, 25
RNG = np.random.default_rng(3)
NUMBERS = RNG.normal(size=(USERS, 2, MOVIES)).astype(np.float32)
LOGITS = (1 + 2 * NUMBERS[:, 0] - NUMBERS[:, 1] ** 2).astype(np.float32)


def of_the_first_users(asked: list[tuple[int, int]]) -> Outline:
    def numbers(users: np.ndarray, movies: np.ndarray | slice) -> np.ndarray:
        found = NUMBERS[users][:, :, movies]
        asked.append((len(found), found.shape[2]))
        return found

    sampled = np.arange(SAMPLED)
    made = Outline(numbers, sampled, LOGITS[sampled], np.zeros((SAMPLED, MOVIES), bool))
    asked.clear()
    return made


def test_rows_are_put_together_from_tiles(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    asked: list[tuple[int, int]] = []
    made = of_the_first_users(asked)
    users = np.array([39, 3, 30, 7, 11])
    monkeypatch.setattr(outline, "_TILE", 40)
    monkeypatch.setattr(outline, "_CELLS", 2 * 2 * 40)
    logits, beyond = made.whole_rows(users)
    assert sorted({*asked}) == [(1, 10), (1, 40), (2, 10), (2, 40)]  # two users at a time, the last one alone
    np.testing.assert_allclose(logits[~beyond], LOGITS[users][~beyond], atol=0.05)
    lowest, highest = NUMBERS[:SAMPLED].min(axis=(0, 2)), NUMBERS[:SAMPLED].max(axis=(0, 2))
    outside = (NUMBERS[users] < lowest[:, None]) | (NUMBERS[users] > highest[:, None])
    assert (beyond == outside.any(axis=1)).mean() > 0.99  # bounds are standardized numbers, up to rounding
    np.testing.assert_array_equal(made.rows(users), logits)
    np.testing.assert_allclose(made.rows(users, np.array([5, 80, 41])), logits[:, [5, 80, 41]], rtol=1e-5, atol=1e-5)
