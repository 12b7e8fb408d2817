import inspect

import numpy as np

from data.dataset import load_adult
from data.preprocess import prepare


def test_adult_is_read_whole(adult):
    assert inspect.getdoc(load_adult)
    assert adult.numbers.shape == (32561, 5)
    assert adult.categories.shape == (32561, 8)
    assert round(adult.y.mean(), 4) == 0.2408  # the share of high incomes that UCI states
    assert "?" in adult.categories


def test_encodings_are_fitted_to_the_training_rows_alone(adult):
    split, again = (prepare(adult, seed=0) for _ in range(2))
    assert split.train.x.equal(again.train.x)
    assert split.numbers == 5
    assert split.classes == 2
    assert np.isfinite(split.train.raw).all()
    # A frequent value, here no capital gain, lands in the middle of its quantiles and not at -5.2.
    no_gain = split.train.raw[:, 2] == 0
    assert split.train.x[no_gain, 2].abs().max() < 1
    for part in (split.train, split.valid, split.test):
        columns = part.x[:, 5:]
        assert set(columns.unique().tolist()) <= {0.0, 1.0}
    # An unknown category is all zeros for the networks and NaN for the trees.
    ones_short = (8 - split.test.x[:, 5:].sum(dim=1)).numpy()
    assert (ones_short == np.isnan(split.test.raw).sum(axis=1)).all()
