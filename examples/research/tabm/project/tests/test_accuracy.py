import numpy as np
from sklearn.metrics import accuracy_score

from testing.metrics import accuracy


def test_it_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 3, 50), rng.dirichlet([1, 1, 1], 50)
    assert accuracy(y, p) == accuracy_score(y, p.argmax(axis=1))


def test_its_ends():
    y = np.array([0, 1, 2])
    assert accuracy(y, np.eye(3)) == 1
    assert accuracy(y, np.eye(3)[[1, 2, 0]]) == 0
