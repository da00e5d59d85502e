import numpy as np
import pytest

from ml.compiled.attention import attend
from ml.compiled.loops import LANES

GROUPS = 2


def by_numpy(query: np.ndarray, key: np.ndarray, value: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """The layer of one head; all arrays [D, G, F, L]."""
    scores = np.einsum("cgib,cgjb->gijb", query, key)
    weights = np.exp2(scores - scores.max(axis=2, keepdims=True))
    weights /= weights.sum(axis=2, keepdims=True)
    return np.maximum(np.einsum("gijb,cgjb->cgib", weights, value) + residual, 0)


# Odd numbers have a last one without a neighbor; more than 24 fields do not fit the unrolled loops.
@pytest.mark.parametrize("fields", [1, 2, 3, 13, 24, 27])
@pytest.mark.parametrize("head_dim", [1, 2, 5])
def test_pairs_of_fields_and_columns_give_the_layer(fields: int, head_dim: int) -> None:
    rng = np.random.default_rng(fields * head_dim)
    projected = rng.normal(size=(4, head_dim, GROUPS, fields, LANES)).astype(np.float32)
    out = np.empty((head_dim, GROUPS, fields, LANES), np.float32)
    attend(
        projected.reshape(-1),
        np.empty(2 * (fields + 1) * LANES, np.float32),
        out.reshape(-1),
        (GROUPS, fields, head_dim),
    )
    np.testing.assert_allclose(out, by_numpy(*projected.astype(np.float64)), rtol=1e-4, atol=1e-5)
