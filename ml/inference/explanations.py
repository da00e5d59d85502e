"""Explain why a model lists a movie: name the liked movie that is most similar to it for the model.

Two movies are similar for a model where it gives both high scores to the same users. The logits of all movies are
computed for some users. Each movie's mean (how good it is for everybody) and each user's mean (how high the user's
scores are in general) are subtracted; the similarity of two movies is the correlation of what remains, the personal
part of their scores. A model with a small personal part gives everybody nearly the same list. Then no liked movie
explains it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ml.inference.scorer import Scorer
from ml.schema import Id, id_type

SAMPLED_USERS = 256
LEAST_PERSONAL_SHARE = 0.1  # of the variance of a user's logits; below it there are no explanations
LEAST_SIMILARITY = 0.5


@dataclass(frozen=True)
class Explanations:
    """The similarity of movies for a model.

    Attributes:
        movie_ids: [movies].
        directions: float32 [sampled users, movies]; columns of length 1, whose inner products are correlations.
        personal_share: variance of the personal part divided by that of the logits without the users' means.
    """

    movie_ids: pd.Index
    directions: np.ndarray
    personal_share: float

    @classmethod
    def of(cls, scorer: Scorer, seed: int = 42) -> "Explanations":
        """Compute it at the last year and month of the model's encoders, on users that ``seed`` samples."""
        feature_map = scorer.bundle.feature_map
        year, month = feature_map.years[-1], feature_map.months[-1]
        users = len(scorer.user_ids)
        drawn = np.random.default_rng(seed).choice(users, min(users, SAMPLED_USERS), replace=False)
        logits = scorer.catalogue(year, month).rows(np.sort(drawn))
        of_user = logits - logits.mean(axis=1, keepdims=True)
        personal = of_user - of_user.mean(axis=0)
        lengths = np.linalg.norm(personal, axis=0)
        share = float(np.square(personal).sum() / max(np.square(of_user).sum(), np.finfo(np.float32).tiny))
        return cls(pd.Index(scorer.movie_ids), personal / np.where(lengths > 0, lengths, 1), share)

    @property
    def can_explain(self) -> bool:
        """Whether the model's lists are personal enough to be explained by liked movies."""
        return self.personal_share >= LEAST_PERSONAL_SHARE

    def nearest(self, movies: Sequence[Id], liked: Sequence[Id]) -> pd.DataFrame:
        """Find the most similar liked movie of each movie.

        Args:
            movies: ids that the model knows.
            liked: ids; those that the model does not know are left out.

        Returns:
            movie_id, because (id of a liked movie), similarity (correlation). Movies whose similarity is below
            ``LEAST_SIMILARITY`` are left out; no rows where the model cannot explain.
        """
        known = [movie for movie in liked if movie in self.movie_ids]
        if not self.can_explain or not known or not len(movies):
            kind = "int64" if id_type(self.movie_ids) is int else "str"
            dtypes = {"movie_id": kind, "because": kind, "similarity": "float64"}
            return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in dtypes.items()})
        own, others = self.movie_ids.get_indexer(pd.Index(movies)), self.movie_ids.get_indexer(pd.Index(known))
        similarity = self.directions[:, own].T @ self.directions[:, others]  # [movies, liked]
        nearest = similarity.argmax(axis=1)
        found = pd.DataFrame(
            {
                "movie_id": list(movies),
                "because": pd.Index(known)[nearest],
                "similarity": similarity[np.arange(len(own)), nearest],
            }
        )
        return found[found["similarity"] >= LEAST_SIMILARITY].reset_index(drop=True)
