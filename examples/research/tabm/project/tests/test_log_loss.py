import math

import numpy as np
from sklearn.metrics import log_loss as log_loss_of_scikit_learn

from testing.metrics import log_loss


def test_it_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 3, 50), rng.dirichlet([1, 1, 1], 50)
    expected = log_loss_of_scikit_learn(y, p, labels=[0, 1, 2])
    np.testing.assert_allclose(log_loss(y, p), expected, rtol=1e-12)


def test_its_ends():
    y = np.array([0, 1, 2])
    assert log_loss(y, np.eye(3)) == 0
    assert math.isclose(log_loss(y, np.full((3, 3), 1 / 3)), math.log(3))
    assert 700 < log_loss(y, np.eye(3)[[1, 2, 0]]) < math.inf
