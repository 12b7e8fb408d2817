"""The code MLflow stores beside a registered bundle: how any MLflow tool loads it and predicts.

MLflow runs this file when it loads the model ("models from code"), so nothing is pickled. It is
no part of Maquette's own serving.
"""

from __future__ import annotations

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

import maquette


class ServedBundle(PythonModel):
    """A bundle behind MLflow's interface: a table of inputs goes in, a table of answers comes out.

    Tables bring their own columns; images come in the column `image` as encoded bytes, and texts to
    compare them with in the column `text`. The answers have the column `prediction` and, for
    classes, one `probability_<class>` each.
    """

    def load_context(self, context: PythonModelContext) -> None:
        self.bundle = maquette.load(context.artifacts["bundle"])

    def predict(self, model_input: pd.DataFrame) -> pd.DataFrame:  # type: ignore[override]
        is_image = self.bundle.task != "tabular" and self.bundle.classes is not None
        raw = model_input["image"].tolist() if is_image else model_input
        predictions = self.bundle.predict(raw)
        answers = pd.DataFrame({"prediction": predictions.values})
        if predictions.probabilities is not None and predictions.classes is not None:
            names = [f"probability_{name}" for name in predictions.classes]
            answers[names] = predictions.probabilities.astype(float)
        return answers


set_model(ServedBundle())
