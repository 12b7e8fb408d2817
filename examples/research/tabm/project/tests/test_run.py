"""The loop, the choice of a learning rate, and the record."""

import json
import math

import numpy as np
import pytest
import torch

import run
from data.loader import batches
from data.preprocess import prepare
from model.mlp import MLP
from model.tabm import TabM
from testing.evaluator import probabilities, trivial
from testing.metrics import log_loss
from training import trainer
from utils.record import write_record


@pytest.fixture(scope="module")
def split(wine):
    return prepare(wine, seed=0)


def test_batches_show_every_row_once_in_a_new_order(split):
    generator = torch.Generator().manual_seed(0)
    first, second = (list(batches(split.train, 1000, generator)) for _ in range(2))
    assert [len(y) for _, y in first][:-1] == [1000] * (len(first) - 1)
    seen = torch.cat([y for _, y in first])
    assert seen.bincount().equal(split.train.y.bincount())
    assert not seen.equal(torch.cat([y for _, y in second]))


def test_training_lowers_the_loss_and_repeats_bit_for_bit(split):
    found = []
    for _ in range(2):
        torch.manual_seed(1)
        model = TabM(split.train.x.shape[1], split.classes, members=4, width=32)
        found.append((trainer.train(model, split, 0.008, 3, seed=1), model))
    (history, model), (again, repeated) = found
    assert history == again
    assert history["losses"][-1] < history["losses"][0]
    assert all(0 < norm < math.inf for norm in history["grad_norms"])
    for name, weight in model.state_dict().items():
        assert weight.equal(repeated.state_dict()[name])


def test_it_stops_early_and_keeps_the_best_epoch(split, monkeypatch):
    scores = iter([3.0, 1.0, 2.0, 2.0, 2.0])
    kept = []
    monkeypatch.setattr(trainer, "PATIENCE", 3)
    model = MLP(split.train.x.shape[1], split.classes, width=8)

    def scored(*_):
        kept.append(model.head.weight.detach().clone())
        return next(scores)

    monkeypatch.setattr(trainer, "log_loss", scored)
    history = trainer.train(model, split, 0.002, 60, seed=0)
    assert history["best_epoch"] == 2
    assert len(history["losses"]) == 5
    assert model.head.weight.equal(kept[1])


def test_the_rate_is_chosen_by_validation_and_the_test_rows_are_read_once(split, monkeypatch):
    class_frequencies = np.full(5, 0.2)
    asked = []

    def fit(_name, split, rate, *_):
        # The middle rate is right about the validation rows; the last one about the test rows.
        def predict(part):
            asked.append((rate, part is split.test))
            good = (rate == run.NETWORK_RATES[1]) != (part is split.test)
            truth = np.eye(5)[part.y.numpy()]
            return 0.9 * truth + 0.1 * class_frequencies if good else truth * 0 + 0.2

        return {"losses": [1.0]}, predict

    monkeypatch.setattr(run, "fit", fit)
    training = run.compete("mlp", split, epochs=1, seed=0)
    assert training["learning_rate"] == run.NETWORK_RATES[1]
    assert [rate for rate, is_test in asked if is_test] == [run.NETWORK_RATES[1]]
    assert training["metrics"]["log_loss"] == pytest.approx(math.log(5))
    assert training["test_samples"] == len(split.test.y)


def test_the_trivial_answer_is_that_of_the_training_rows(split):
    frequencies = np.bincount(split.train.y) / len(split.train.y)
    most_frequent = frequencies.argmax()
    found = trivial(split)
    assert found["accuracy"] == (split.test.y.numpy() == most_frequent).mean()
    assert found["log_loss"] == pytest.approx(-np.log(frequencies)[split.test.y.numpy()].mean())


def test_evaluation_in_chunks_changes_nothing(split):
    torch.manual_seed(0)
    model = MLP(split.train.x.shape[1], split.classes)
    p = probabilities(model, split.train)
    assert p.shape == (len(split.train.y), 5)
    assert log_loss(split.train.y.numpy(), p) == pytest.approx(math.log(5), abs=0.1)


def test_the_record_is_json_without_nan(tmp_path):
    write_record(tmp_path / "new", {"losses": (1 / 3, math.nan, -math.inf), "seed": 0})
    text = (tmp_path / "new" / "run.json").read_text()
    assert json.loads(text) == {"losses": [0.333333, None, None], "seed": 0}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["run.json"]


def test_a_whole_run(wine, tmp_path, monkeypatch):
    monkeypatch.setitem(run.DATASETS, "wine_quality", lambda: wine)
    monkeypatch.setattr(run, "NETWORK_RATES", (0.008,))
    monkeypatch.setattr(run, "TREE_RATES", (0.3,))
    arguments = ["run.py", "--epochs", "2", "--datasets", "wine_quality", "--output", str(tmp_path)]
    monkeypatch.setattr("sys.argv", arguments)
    run.main()
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["datasets"] == {"wine_quality": {"sha256": wine.sha256, "samples": 5217}}
    assert record["epochs"] == 2
    assert [entry["model"] for entry in record["trainings"]] == ["mlp", "tabm", "trees"]
    for entry in record["trainings"]:
        assert entry["metrics"]["log_loss"] < entry["baseline"]["log_loss"]
        assert entry["metrics"]["accuracy"] > entry["baseline"]["accuracy"]
        assert len(entry["losses"]) == (0 if entry["model"] == "trees" else 2)


def test_a_count_below_one_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["run.py", "--epochs", "0"])
    with pytest.raises(SystemExit):
        run.main()
    assert "--epochs and --seeds must be at least 1" in capsys.readouterr().err
