"""The feature ``days_since_first`` where a model is asked for a user at a year and month."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from ml import schema
from ml.features.moments import DAY, middle_of_month, range_of
from ml.models.bundle import ModelBundle


@dataclass(frozen=True)
class DaysSinceFirst:
    """Days from each user's first rating to the middle of a month; 0 for a user whose first rating is later.

    Attributes:
        position: of the feature among all.
        columns: positions of year and month among the context features.
        times: middle of the month by indices of year and month, int64 [years, months].
        first_times: of each user, int64 [users].
        leasts: least number of days of each range of the feature.
    """

    position: int
    columns: tuple[int, int]
    times: np.ndarray
    first_times: np.ndarray
    leasts: tuple[int, ...]

    @classmethod
    def of(cls, bundle: ModelBundle) -> Self | None:
        """Return what a bundle needs to compute the feature; None if it does not have it."""
        feature_map = bundle.feature_map
        if schema.DAYS_SINCE_FIRST not in feature_map.names:
            return None
        years, months = np.meshgrid(feature_map.years, feature_map.months, indexing="ij")
        context = feature_map.side("context").names
        return cls(
            feature_map.names.index(schema.DAYS_SINCE_FIRST),
            (context.index("rating_year"), context.index("rating_month")),
            middle_of_month(years.ravel(), months.ravel()).reshape(years.shape),
            bundle.users[schema.FIRST_TIMESTAMP].to_numpy(np.int64),
            tuple(map(int, feature_map[schema.DAYS_SINCE_FIRST].values)),
        )

    def indices(self, users: np.ndarray, context: np.ndarray) -> np.ndarray:
        """Return the feature's indices, int64 [n].

        Args:
            users: user indices [n].
            context: indices [n, context features] or [1, context features].
        """
        year, month = self.columns
        now = self.times[context[:, year], context[:, month]]
        return range_of((now - self.first_times[users]) // DAY, self.leasts)
