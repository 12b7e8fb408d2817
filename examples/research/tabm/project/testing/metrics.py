"""The metrics of the plan. y is (n,) classes from 0, p is (n, classes) probabilities."""

import numpy as np


def accuracy(y: np.ndarray, p: np.ndarray) -> float:
    r"""Return the share of rows whose most probable class is the true one.

    $$ A = \frac{1}{n} \sum_{j=1}^{n} [\arg\max_c \hat{p}_{jc} = y_j] $$
    """
    return float((p.argmax(axis=1) == y).mean())


def log_loss(y: np.ndarray, p: np.ndarray) -> float:
    r"""Return the mean negative log probability of the true class, in nats.

    $$ H = -\frac{1}{n} \sum_{j=1}^{n} \log \hat{p}_{j y_j} $$

    A probability of zero counts as the smallest normal float, so one row cannot make it infinite.
    """
    of_truth = p[np.arange(len(y)), y]
    return float(-np.log(np.maximum(of_truth, np.finfo(np.float64).tiny)).mean())


METRICS = {"accuracy": accuracy, "log_loss": log_loss}
