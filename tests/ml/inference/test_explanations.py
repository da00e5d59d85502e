import numpy as np
import pandas as pd
import pytest

from ml.inference.explanations import LEAST_SIMILARITY, Explanations
from ml.inference.scorer import Scorer
from ml.models.bundle import ModelBundle
from tests.ml.inference.test_recommend import TableForward


def explanations_of(bundle: ModelBundle, logits: np.ndarray) -> Explanations:
    """Of a model with these logits [users, movies] at any moment."""
    table = np.repeat(logits[:, :, None], 12, axis=2).astype(np.float32)
    return Explanations.of(Scorer(bundle, TableForward(bundle, table)))


@pytest.fixture(scope="module")
def logits(bundle: ModelBundle) -> np.ndarray:
    """Three tastes, one for each third of the movies, and a movie's and a user's own level."""
    rng = np.random.default_rng(5)
    users, movies = len(bundle.users), len(bundle.movies)
    tastes = rng.normal(size=(users, 3))[:, np.arange(movies) % 3]
    return tastes + rng.normal(size=movies) + rng.normal(size=(users, 1)) + 0.2 * rng.normal(size=(users, movies))


def test_reason_is_the_liked_movie_of_the_same_taste(bundle: ModelBundle, logits: np.ndarray) -> None:
    explanations = explanations_of(bundle, logits)
    ids = bundle.movies["movie_id"].to_numpy()
    liked = ids[:3].tolist()
    found = explanations.nearest(ids[30:36].tolist(), liked)
    assert found["movie_id"].tolist() == ids[30:36].tolist()
    assert found["because"].tolist() == [liked[position % 3] for position in range(30, 36)]
    assert found["similarity"].between(LEAST_SIMILARITY, 1).all()


def test_similarity_is_the_correlation_of_the_personal_parts(bundle: ModelBundle, logits: np.ndarray) -> None:
    explanations = explanations_of(bundle, logits)
    ids = bundle.movies["movie_id"].to_numpy()
    drawn = np.sort(np.random.default_rng(42).choice(len(logits), min(len(logits), 256), replace=False))
    personal = logits[drawn] - logits[drawn].mean(axis=1, keepdims=True)
    expected = np.corrcoef(personal[:, 0], personal[:, 30])[0, 1]
    found = explanations.nearest([int(ids[30])], [int(ids[0])])
    assert found["similarity"].item() == pytest.approx(expected, abs=1e-4)


def test_nothing_is_said_without_a_liked_movie_that_is_alike(bundle: ModelBundle, logits: np.ndarray) -> None:
    explanations = explanations_of(bundle, logits)
    ids = bundle.movies["movie_id"].tolist()
    assert explanations.nearest(ids[30:31], ids[1:3]).empty  # of the other two tastes
    assert explanations.nearest(ids[30:31], []).empty
    assert explanations.nearest(ids[30:31], [987654]).empty
    assert list(explanations.nearest(ids[30:31], []).columns) == ["movie_id", "because", "similarity"]


def test_model_that_ranks_alike_for_everybody_gives_no_reasons(bundle: ModelBundle) -> None:
    rng = np.random.default_rng(5)
    levels = rng.normal(size=len(bundle.movies)) + rng.normal(size=(len(bundle.users), 1))
    explanations = explanations_of(bundle, levels + 0.01 * rng.normal(size=levels.shape))
    assert explanations.personal_share < 0.001
    assert not explanations.can_explain
    ids = bundle.movies["movie_id"].tolist()
    assert explanations.nearest(ids[30:36], ids).empty


def test_personal_share_of_half(bundle: ModelBundle) -> None:
    rng = np.random.default_rng(6)
    shape = len(bundle.users), len(bundle.movies)
    explanations = explanations_of(
        bundle, rng.normal(size=shape[1]) + rng.normal(size=shape) + 3 * rng.normal(size=(shape[0], 1))
    )
    assert explanations.personal_share == pytest.approx(0.5, abs=0.05)
    assert isinstance(explanations.movie_ids, pd.Index)
