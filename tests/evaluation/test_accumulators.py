"""Accumulators: any batching gives the metrics of the whole split."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maquette.errors import RunError
from maquette.evaluation.accumulators import ClassificationMetrics, RegressionMetrics, softmax
from maquette.evaluation.metrics import classification_metrics, regression_metrics


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 50), st.integers(1, 50), st.integers(0, 2**31))
def test_classification_does_not_depend_on_batches(n, batch_size, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, 3, generator=generator)
    targets = torch.randint(0, 3, (n,), generator=generator)
    whole, parts = ClassificationMetrics("abc"), ClassificationMetrics("abc")
    whole.update(logits, targets)
    for rows, labels in zip(logits.split(batch_size), targets.split(batch_size), strict=True):
        parts.update(rows, labels)

    assert parts.compute() == whole.compute()
    expected = logits.double().softmax(dim=1).numpy()
    assert whole.compute() == pytest.approx(classification_metrics(targets.numpy(), expected))
    np.testing.assert_allclose(parts.probabilities, expected, rtol=1e-12)
    np.testing.assert_array_equal(parts.targets, targets.numpy())


def test_regression_is_in_the_users_unit():
    outputs, targets = torch.tensor([0.0, 1.0, -1.0]), torch.tensor([0.5, 1.0, -2.0])
    metrics = RegressionMetrics(mean=100, scale=10)
    metrics.update(outputs[:1], targets[:1])
    metrics.update(outputs[1:], targets[1:])
    assert metrics.predictions.tolist() == [100, 110, 90]
    assert metrics.targets.tolist() == [105, 110, 80]
    assert metrics.compute() == regression_metrics([105, 110, 80], [100, 110, 90])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_any_floating_type_with_gradient(dtype):
    metrics = ClassificationMetrics(["no", "yes"])
    logits = torch.tensor([[1.0, 3.0], [2.0, 0.0]], dtype=dtype, requires_grad=True)
    metrics.update(logits, torch.tensor([1, 0]))
    assert metrics.compute()["accuracy"] == 1


def test_softmax_of_extreme_logits():
    assert softmax(np.array([[1e4, 0.0, -1e4]])).tolist() == [[1, 0, 0]]
    assert softmax(np.zeros((0, 3))).shape == (0, 3)


def test_nothing_given():
    with pytest.raises(ValueError, match="probabilities are empty"):
        ClassificationMetrics("ab").compute()
    with pytest.raises(ValueError, match="targets are empty"):
        RegressionMetrics(0, 1).compute()


def test_wrong_shapes():
    with pytest.raises(
        ValueError, match=r"network outputs are \(4, 2\), expected \(batch, 3\): one column per"
    ):
        ClassificationMetrics("abc").update(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(
        ValueError, match=r"network outputs are \(4, 1\) and targets \(4,\), expected \(batch,\)"
    ):
        RegressionMetrics(0, 1).update(torch.zeros(4, 1), torch.zeros(4))


def test_diverged_outputs_name_the_sample():
    metrics = ClassificationMetrics("ab")
    metrics.update(torch.tensor([[0.0, 1.0], [float("nan"), 0.0]]), torch.tensor([0, 1]))
    with pytest.raises(
        RunError, match=r"not finite: sample 2 of 2 .* lower training.learning_rate"
    ):
        metrics.compute()
    numbers = RegressionMetrics(0, 1)
    numbers.update(torch.tensor([float("inf")]), torch.tensor([0.0]))
    with pytest.raises(RunError, match=r"sample 1 of 1 in this split gave inf"):
        numbers.compute()


def test_importing_the_metrics_does_not_import_torch_or_scikit_learn():
    code = (
        "import sys, maquette.evaluation.accumulators, maquette.evaluation.metrics; "
        "sys.exit(bool({'torch', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
