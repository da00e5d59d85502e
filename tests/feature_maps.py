"""Fit a feature map on interactions, and encode them, the plain way."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ml import schema
from ml.features.feature_map import FeatureMap, FieldVocabulary


def fitted(interactions: pd.DataFrame, fields: Sequence[schema.Field] = schema.FIELDS) -> FeatureMap:
    """Return the map of each feature's values, sorted; on base rows alone, ``FeatureMap.grow`` returns the same.

    The multi-valued features are those of MovieLens that the interactions have.
    """
    vocabularies = []
    for field in fields:
        values = np.sort(interactions[field.name].unique())
        vocabularies.append(FieldVocabulary(field.name, field.side, field.kind, values=tuple(values.tolist())))
    multivalued = []
    for name in schema.MULTIVALUED:
        if name in interactions:
            values = sorted(set("|".join(interactions[name].unique()).split("|")) - {""})
            multivalued.append(FieldVocabulary(name, "movie", "multivalued", values=tuple(values)))
    return FeatureMap(tuple(vocabularies), tuple(multivalued))


def encode_interactions(interactions: pd.DataFrame, feature_map: FeatureMap) -> pd.DataFrame:
    """Return the rows of ``join_interactions`` encoded, one column after the other."""
    indices = feature_map.transform(interactions)
    origin = [name for name in schema.ORIGIN if name in interactions]
    return indices.join(interactions[[schema.LABEL, "rating", "timestamp", *origin]])
