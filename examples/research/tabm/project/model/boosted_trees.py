"""Gradient-boosted trees: scikit-learn's, stopped by the validation rows that all models use."""

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from data.preprocess import Part, Split


class BoostedTrees:
    r"""Trees, added until the validation log loss has not fallen for 10 rounds, or 1000 are there.

    $$ z(x) = z_0 + \eta \sum_{m=1}^{M} T_m(x) $$
    """

    def __init__(self, split: Split, learning_rate: float, seed: int) -> None:
        categories = list(range(split.numbers, split.train.raw.shape[1]))
        stopping = {"max_iter": 1000, "early_stopping": True, "n_iter_no_change": 10, "tol": 0}
        self.trees = HistGradientBoostingClassifier(
            learning_rate=learning_rate,
            categorical_features=categories,
            random_state=seed,
            **stopping,
        )
        train, valid = split.train, split.valid
        self.trees.fit(train.raw, train.y.numpy(), X_val=valid.raw, y_val=valid.y.numpy())

    def probabilities(self, part: Part) -> np.ndarray:
        """Return the class probabilities, (rows, classes)."""
        return self.trees.predict_proba(part.raw)
