import numpy as np

from data.preprocess import prepare
from model.boosted_trees import BoostedTrees
from testing.evaluator import evaluate, trivial
from testing.metrics import log_loss


def test_they_stop_by_the_validation_rows_and_beat_the_class_frequencies(wine):
    split = prepare(wine, seed=0)
    model = BoostedTrees(split, 0.3, seed=0)
    assert model.trees.is_categorical_.tolist() == [False] * 11 + [True]
    assert 10 < model.trees.n_iter_ < 1000
    # The scores that stopped it are the log losses of the very validation rows.
    scores = -model.trees.validation_score_
    assert scores[-10:].min() >= scores.min()
    p = model.probabilities(split.valid)
    np.testing.assert_allclose(log_loss(split.valid.y.numpy(), p), scores[-1], rtol=1e-6)
    np.testing.assert_allclose(p.sum(axis=1), 1)

    assert (
        evaluate(split.test, model.probabilities(split.test))["accuracy"]
        > (trivial(split)["accuracy"])
    )
