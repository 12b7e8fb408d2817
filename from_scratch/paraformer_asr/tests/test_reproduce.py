"""Training twice gives the same numbers and bits; what differs is said."""

from __future__ import annotations

import pytest
import torch
from small import small_config

from paraformer_asr import checkpoints
from paraformer_asr.errors import AsrError
from paraformer_asr.reproduce import compare_rows, compare_weights, reproduce
from paraformer_asr.train import train


@pytest.fixture(autouse=True)
def torch_as_before():
    yield
    torch.use_deterministic_algorithms(False)


def test_the_same_configuration_gives_the_same_run():
    comparison = reproduce(small_config(data={"augment": {"freq_masks": 1, "time_masks": 1}}))
    assert comparison.equal
    assert str(comparison) == "equal: every number of metrics.csv and every bit of the weights"


def test_what_differs_is_named(tmp_path):
    first = train(small_config(out=str(tmp_path)), progress=False)
    second = train(small_config(out=str(tmp_path), seed=1), progress=False)
    rows, weights = compare_rows(first, second), compare_weights(first, second)
    assert any(line.startswith("step 1: loss is ") for line in rows)
    assert any("decoder" in line and "differs by up to" in line for line in weights)
    shorter = train(small_config(out=str(tmp_path), train={"steps": 3}), progress=False)
    assert compare_rows(first, shorter) == ["metrics.csv has 8 and 4 rows"]


def test_one_changed_bit_is_seen(tmp_path):
    folder = train(small_config(out=str(tmp_path)), progress=False)
    state = checkpoints.load_newest(folder)
    name, value = next(iter(state["model"].items()))
    value.view(-1)[0] = torch.nextafter(value.view(-1)[0], torch.tensor(9.0))
    other = tmp_path / "other"
    (other / "checkpoints").mkdir(parents=True)
    checkpoints.save(
        other / "checkpoints" / "last.pt", {k: v for k, v in state.items() if k != "version"}
    )
    (difference,) = compare_weights(folder, other)
    assert difference.startswith(f"{name} differs by up to ")


def test_runs_that_end_by_the_clock_are_refused():
    with pytest.raises(AsrError, match="set it to null to compare runs"):
        reproduce(small_config(train={"max_minutes": 1.0}))
