"""Reproduction: what counts as equal, and that the first difference is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from unet_seg import reproduce as module
from unet_seg.errors import Interrupted
from unet_seg.reproduce import Reproduction, hash_weights, reproduce
from unet_seg.runs import read_rows
from unet_seg.train import train


def test_a_hash_sees_names_types_shapes_and_every_bit():
    weights = {"a": torch.arange(6.0), "b": torch.tensor(1)}
    same = {"b": torch.tensor(1), "a": torch.arange(6.0).clone()}
    assert hash_weights(weights) == hash_weights(same)
    changed = [
        {"c": weights["a"], "b": weights["b"]},
        {**weights, "a": weights["a"].reshape(2, 3)},
        {**weights, "a": weights["a"].to(torch.float64)},
        {**weights, "a": weights["a"].view(torch.int32)},
        {**weights, "b": torch.tensor(2)},
        {**weights, "a": torch.nextafter(weights["a"], torch.tensor(9.0))},
        {"a": weights["a"]},
    ]
    hashes = {hash_weights(other) for other in changed}
    assert len(hashes) == len(changed)
    assert hash_weights(weights) not in hashes


def test_a_hash_does_not_see_the_memory_layout():
    images = torch.rand(2, 3, 4, 5)
    assert hash_weights({"a": images}) == hash_weights(
        {"a": images.to(memory_format=torch.channels_last)}
    )
    assert hash_weights({"a": images.bfloat16()}) != hash_weights({"a": images})


def test_two_runs_are_equal_and_both_are_kept(make_config):
    result = reproduce(make_config(train={"steps": 2, "valid_every": 2}))
    assert result.equal
    assert all(len(read_rows(run)) == 2 for run in result.runs)
    first, second, verdict = result.text().splitlines()
    assert first == f"{result.runs[0]}  weights {result.hashes[0][:16]}"
    assert second.endswith(result.hashes[0][:16])
    assert verdict == "equal: every metric and every bit of the weights"


def rewrite(run: Path, change) -> None:
    path = run / "metrics.csv"
    path.write_text(change(path.read_text()))


def drop_a_row(text: str) -> str:
    return "\n".join(text.splitlines()[:-1]) + "\n"


def other_learning_rate(text: str) -> str:
    head, row, *rest = text.splitlines()
    step, _, *cells = row.split(",")
    return "\n".join([head, ",".join([step, "7", *cells]), *rest]) + "\n"


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (drop_a_row, "metrics.csv has 2 and 1 rows"),
        (other_learning_rate, "lr at step 1 is 0.002 and 7"),
        (None, "the weights, though no logged number shows it"),
    ],
)
def test_the_first_difference_is_told(make_config, monkeypatch, change, difference):
    runs: list[Path] = []

    def disturbed(config):
        run = train(config, progress=False)
        runs.append(run)
        if len(runs) == 2 and change:
            rewrite(run, change)
        return run

    monkeypatch.setattr(module, "train", disturbed)
    if change is None:
        hashes = iter(["0123", "4567"])
        monkeypatch.setattr(module, "hash_weights", lambda _: next(hashes))
    config = make_config(train={"steps": 2, "valid_every": 2}, optim={"schedule": "constant"})
    result = reproduce(config)
    assert not result.equal
    assert result.difference == difference
    assert result.text().splitlines()[-1] == f"different: {difference}"


def test_times_may_differ(tmp_path):
    for name, seconds in (("a", "1.5"), ("b", "2.5")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.csv").write_text(
            f"step,lr,seconds,train/images_per_s\n1,0.1,{seconds},{seconds}\n"
        )
    runs = (tmp_path / "a", tmp_path / "b")
    assert module._difference(*runs, ("x", "x")) is None
    assert Reproduction(runs, ("x", "x"), None).equal


def test_a_signal_stops_both(make_config, monkeypatch):
    def stopped(config):
        raise Interrupted(Path("runs/x"), 4, 130)

    monkeypatch.setattr(module, "train", stopped)
    with pytest.raises(Interrupted, match="stopped after step 4"):
        reproduce(make_config())
