"""Gradient-boosted trees: scikit-learn's, stopped by the validation rows that all models use."""

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from data.preprocess import Part, Split


class BoostedTrees:
    r"""$$ z(x) = z_0 + \eta \sum_{m=1}^{M} T_m(x) $$ with the learning rate η and M rounds.

    Rounds are added until the validation log loss has not fallen for 10 of them, 1000 at most.
    """

    def __init__(self, split: Split, learning_rate: float, seed: int) -> None:
        self.trees = HistGradientBoostingClassifier(
            learning_rate=learning_rate,
            max_iter=1000,
            categorical_features=list(range(split.numbers, split.train.raw.shape[1])),
            early_stopping=True,
            n_iter_no_change=10,
            tol=0,
            random_state=seed,
        )
        train, valid = split.train, split.valid
        self.trees.fit(train.raw, train.y.numpy(), X_val=valid.raw, y_val=valid.y.numpy())

    def probabilities(self, part: Part) -> np.ndarray:
        """Return the class probabilities, (rows, classes)."""
        return self.trees.predict_proba(part.raw)
