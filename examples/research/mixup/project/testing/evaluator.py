"""All metrics of a network on the test part, and those of the trivial answer."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from data.dataset import CLASSES
from model.temperature_scaling import TemperatureScaling
from testing import metrics


def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    """Return the logits of all images in evaluation mode, (N, 3, S, S) -> (N, C)."""
    model.eval()
    with torch.inference_mode():
        return torch.cat([model(batch) for batch in images.split(256)])


def scores(logits: Tensor, labels: Tensor, scaling: TemperatureScaling) -> dict[str, float]:
    """Return every metric of the plan, before and after scaling."""
    return {
        "accuracy": metrics.accuracy(logits, labels),
        "nll": metrics.nll(logits, labels),
        "brier": metrics.brier(logits, labels),
        "ece": metrics.ece(logits, labels),
        "nll_after_scaling": metrics.nll_after_scaling(logits, labels, scaling),
        "brier_after_scaling": metrics.brier_after_scaling(logits, labels, scaling),
        "ece_after_scaling": metrics.ece_after_scaling(logits, labels, scaling),
    }


def evaluate(model: nn.Module, validation: TensorDataset, test: TensorDataset) -> dict[str, float]:
    """Fit the temperature to the validation part and score the test part."""
    (seen, seen_labels), (images, labels) = validation.tensors, test.tensors
    scaling = TemperatureScaling.fit(logits_of(model, seen), seen_labels)
    found = scores(logits_of(model, images), labels, scaling)
    return {**found, "temperature": scaling.temperature}


def trivial(train: TensorDataset, test: TensorDataset) -> dict[str, float]:
    """Score the answer that gives every image the class frequencies of the training part."""
    labels = test.tensors[1]
    frequencies = F.one_hot(train.tensors[1], CLASSES).double().mean(dim=0)
    found = scores(frequencies.log().expand(len(labels), -1), labels, TemperatureScaling())
    # Such an answer is calibrated although it knows nothing: no measure for calibration errors.
    return {key: value for key, value in found.items() if not key.startswith("ece")}
