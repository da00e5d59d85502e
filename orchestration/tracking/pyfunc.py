"""The registered model: takes raw values, gives the probability of a like, and the rating if the network predicts it.

MLflow stores this file and the ``ml`` package with the model, and runs it in processes without this project. So it
imports nothing else of the project.
"""

from typing import Any

import mlflow
import pandas as pd


class RecommenderModel(mlflow.pyfunc.PythonModel):
    """Scores pairs (user_id, movie_id, year, month) or full rows (all features of the feature map)."""

    def load_context(self, context: Any) -> None:
        """Read the bundle that was logged with the model."""
        from pathlib import Path

        from ml.inference.scorer import Scorer
        from ml.models.bundle import ModelBundle

        self.scorer = Scorer(ModelBundle.load(Path(context.artifacts["bundle"])))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Score rows: columns ``score`` and, from a multi-task network, ``rating``, both float32.

        Raises LookupError or ValueError that names the bad value.
        """
        ratings = self.scorer.predict_ratings(model_input)
        outputs = {"score": self.scorer.score_rows(model_input)}
        return pd.DataFrame(outputs if ratings is None else {**outputs, "rating": ratings})


mlflow.models.set_model(RecommenderModel())
