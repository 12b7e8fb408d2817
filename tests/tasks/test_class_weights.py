from __future__ import annotations

import numpy as np
import pytest
import torch

from maquette.tasks.class_weights import balanced_weights


def test_balanced_weights_equal_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.repeat([0, 1, 2], [5, 20, 75])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    weights = balanced_weights((5, 20, 75))
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    assert weights[labels].mean().item() == pytest.approx(1)


def test_class_weights_average_to_one():
    counts = [3, 10, 100]
    assert float((balanced_weights(counts) * torch.tensor(counts)).sum()) == pytest.approx(113)
