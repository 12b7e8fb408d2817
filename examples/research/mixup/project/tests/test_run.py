"""The pieces together: arms share weights and batches, the trivial answer, the record."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch.utils.data import TensorDataset

import run
from data.loader import batches_of
from model.small_cnn import SmallCNN
from testing.evaluator import evaluate, trivial
from training.trainer import Arm, train
from utils.record import write_record


def part(count: int, seed: int) -> TensorDataset:
    """Images whose brightness says the label, easy to learn."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 10
    images = torch.randn(count, 3, 16, 16, generator=generator) * 0.1
    return TensorDataset(images + labels[:, None, None, None] / 3 - 1.5, labels)


def test_the_arms_are_the_four_of_the_plan() -> None:
    assert {
        "plain": Arm(0.0, 0.0),
        "label_smoothing": Arm(0.1, 0.0),
        "mixup": Arm(0.0, 0.2),
        "both": Arm(0.1, 0.2),
    } == run.ARMS


def test_the_loss_falls_and_a_seed_repeats_it() -> None:
    histories = []
    for _ in range(2):
        torch.manual_seed(3)
        model = SmallCNN(widths=(8, 8, 8, 8))
        batches = batches_of(part(65, seed=0), 16, seed=3)
        histories.append(train(model, batches, Arm(0.1, 0.2), 4, 3))
    assert histories[0] == histories[1]
    assert len(histories[0]) == 4
    assert histories[0][-1][0] < histories[0][0][0]
    assert all(norm > 0 for _, norm in histories[0])


def test_the_first_loss_of_two_arms_differs_by_the_targets_alone() -> None:
    """Same weights and same batch: the first losses of plain and smoothed follow each other."""
    first = {}
    for name in ("plain", "label_smoothing"):
        torch.manual_seed(1)
        model = SmallCNN(widths=(8, 8, 8, 8))
        (images, labels), *_ = batches_of(part(32, seed=0), 32, seed=1)
        log_p = model(images).log_softmax(dim=1)
        first[name] = -log_p.gather(1, labels[:, None]).mean().item()
        if name == "label_smoothing":
            first[name] = 0.9 * first[name] - 0.1 * log_p.mean().item()
        torch.manual_seed(1)
        model = SmallCNN(widths=(8, 8, 8, 8))
        batches = batches_of(part(32, seed=0), 32, seed=1)
        assert train(model, batches, run.ARMS[name], 1, 1)[0][0] == pytest.approx(first[name])
    assert first["plain"] != first["label_smoothing"]


def test_the_trivial_answer() -> None:
    """Half of the training images are 0 and half 1; of the test images all are 1 or all are 0."""
    images = torch.zeros(4, 3, 16, 16)
    seen = TensorDataset(images, torch.tensor([0, 0, 0, 1]))
    test = TensorDataset(images, torch.tensor([0, 0, 1, 1]))
    found = trivial(seen, test)
    assert found["accuracy"] == 0.5
    assert found["nll"] == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2)
    assert found["brier"] == pytest.approx((2 * 0.25**2 + 2 * 0.75**2) / 2)
    assert found["nll_after_scaling"] == found["nll"]
    assert "ece" not in found


def test_the_temperature_comes_from_the_validation_part_alone() -> None:
    torch.manual_seed(0)
    model = SmallCNN(widths=(4, 4, 4, 4))
    one, other = (evaluate(model, part(40, seed=1), part(20, seed=seed)) for seed in (2, 3))
    assert one["temperature"] == other["temperature"]
    assert one["nll"] != other["nll"]
    assert model.training is False


def test_the_record_is_whole_and_has_no_nan(tmp_path: Path) -> None:
    record = {"epochs": 2, "trainings": [{"losses": [0.123456789, math.nan, -math.inf]}]}
    path = write_record(tmp_path / "new", record)
    assert json.loads(path.read_text()) == {
        "format": 1,
        "epochs": 2,
        "trainings": [{"losses": [0.123457, None, None]}],
    }
    assert [file.name for file in path.parent.iterdir()] == ["run.json"]


def test_no_epochs_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["run.py", "--epochs", "0"])
    with pytest.raises(SystemExit):
        run.main()
    assert "--epochs is 0, expected 1 or more." in capsys.readouterr().err
