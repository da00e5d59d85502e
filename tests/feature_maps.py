"""Fit a feature map on interactions, the plain way."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ml import schema
from ml.features.feature_map import FeatureMap, FieldVocabulary


def fitted(interactions: pd.DataFrame, fields: Sequence[schema.Field] = schema.FIELDS) -> FeatureMap:
    """Return the map of each feature's values, sorted; on base rows alone, ``FeatureMap.grow`` returns the same."""
    vocabularies = []
    for field in fields:
        values = np.sort(interactions[field.name].unique())
        vocabularies.append(FieldVocabulary(field.name, field.side, field.kind, values=tuple(values.tolist())))
    return FeatureMap(tuple(vocabularies))
