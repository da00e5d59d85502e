import sys

import numpy as np
import pytest

from ml.errors import DataError
from ml.features.histories import Histories
from ml.features.item_vectors import word2vec


def histories() -> Histories:
    """Half of the users rate items 0 to 4, the others 5 to 9; nobody has rated item 10."""
    rng = np.random.default_rng(0)
    items = np.concatenate([rng.permutation(5) + 5 * (user % 2) for user in range(3000)])
    return Histories(np.arange(3001) * 5, items.astype(np.int32))


def test_items_of_the_same_users_have_similar_vectors() -> None:
    pytest.importorskip("gensim")
    vectors = word2vec(histories(), items=11, width=8, seed=1)
    assert vectors.shape == (11, 8)
    assert vectors[:10].std() == pytest.approx(1, abs=1e-5)
    assert not vectors[10].any()
    units = vectors[:10] / np.linalg.norm(vectors[:10], axis=1, keepdims=True)
    cosines = units @ units.T
    assert cosines[:5, :5].min() > cosines[:5, 5:].max()
    np.testing.assert_array_equal(vectors, word2vec(histories(), items=11, width=8, seed=1))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gensim.models", None)
    with pytest.raises(DataError, match="needs gensim, which is not installed; pip install"):
        word2vec(histories(), items=11, width=8, seed=1)
