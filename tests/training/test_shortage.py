"""Out of memory in the middle of a run: smaller pieces, the same steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from coupled_task import CoupledTinyTask, TwoTowers, pairs_source
from tiny_task import CPU, TinyNet, run_tiny, tiny_recipe, tiny_source
from torch import Tensor

from maquette.errors import RunError
from maquette.runs import RunFolder
from maquette.training.loop import fit
from maquette.training.seeding import seed_everything


class Small(TinyNet):
    """Fails like an allocator when it learns from more than `room` samples at once."""

    def __init__(self, room: int, text: str = "CUDA out of memory. Tried to allocate") -> None:
        torch.manual_seed(0)
        super().__init__(dropout=0.0, norm=False)
        self.room, self.text = room, text

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training and len(inputs) > self.room:
            raise RuntimeError(self.text)
        return super().forward(inputs)


def events(folder: RunFolder, name: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in folder.log_file.read_text().splitlines()]
    return [line for line in lines if line["event"] == name]


def test_a_run_out_of_memory_takes_the_same_steps_in_smaller_pieces(tmp_path, capsys):
    recipe = tiny_recipe(tmp_path, batch_size=16, epochs=2, optimizer="sgd")
    results = [run_tiny(recipe, model=Small(room)) for room in (16, 5)]
    (easy, model, _), (hard, other, folder) = results
    assert easy.history[-1]["step"] == hard.history[-1]["step"]
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)
    assert easy.history[-1]["train/loss"] == pytest.approx(hard.history[-1]["train/loss"], rel=1e-5)
    assert [e["from_now_on"] for e in events(folder, "out of memory")] == [8, 4]
    said = capsys.readouterr().err
    assert "out of memory with 16 samples at once: going on with 8, still 16 per step" in said


def test_dropout_is_drawn_again_as_if_nothing_had_happened(tmp_path):
    class Once(TinyNet):
        """Fails once, after its dropout has drawn."""

        failed = False

        def forward(self, inputs: Tensor) -> Tensor:
            outputs = super().forward(inputs)
            if self.training and len(inputs) > 8 and not self.failed:
                self.failed = True
                raise RuntimeError("MPS backend out of memory")
            return outputs

    recipe = tiny_recipe(tmp_path, batch_size=16, epochs=1)
    model = Once(norm=False)
    run_tiny(recipe, model=model, train=tiny_source(16))
    assert model.failed
    pieces = TinyNet(norm=False)
    run_tiny(tiny_recipe(tmp_path, batch_size=8, accumulate=2, epochs=1), model=pieces,
             train=tiny_source(16))  # fmt: skip
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_other_errors_and_single_samples_still_stop_the_run(tmp_path):
    recipe = tiny_recipe(tmp_path, batch_size=4, epochs=1)
    with pytest.raises(RuntimeError, match="no such kernel"):
        run_tiny(recipe, model=Small(2, "no such kernel"))
    with pytest.raises(RunError, match="ran out of memory at training"):
        run_tiny(recipe, model=Small(0))


def test_a_coupled_loss_stays_that_of_the_whole_step(tmp_path):
    class Towers(TwoTowers):
        room = 100

        def forward(self, first: Tensor, second: Tensor) -> Tensor:
            if self.training and len(first) > self.room:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(first, second)

    models = []
    for room in (100, 3):
        recipe = tiny_recipe(tmp_path, epochs=1, batch_size=24, optimizer="sgd")
        seed_everything(0, deterministic=True)
        model = Towers()
        model.room = room
        fit(
            task=CoupledTinyTask(recipe),  # type: ignore[arg-type]
            preprocessor=None,
            model=model,
            train=pairs_source(48),
            valid=pairs_source(16),
            recipe=recipe,
            folder=RunFolder.create(recipe),
            device=CPU,
        )
        models.append(model)
    for one, two in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


class Hungry(TinyNet):
    """Holds a mebibyte and a half per sample while it learns."""

    def forward(self, inputs: Tensor) -> Tensor:
        ballast = torch.ones(len(inputs), 1536 * 256) if self.training else torch.zeros(1, 1)
        return super().forward(inputs) + 0 * ballast.sum()


def test_a_training_keeps_to_its_memory_budget(tmp_path: Path, monkeypatch):
    import maquette.training.budget as budget

    class Meter:
        """Half of what the samples of a step take is too much."""

        def __init__(self, device: Any) -> None:
            self.bytes = 0

        def __enter__(self) -> Meter:
            return self

        def __exit__(self, *_: object) -> None:
            self.bytes = 2**30 * len(seen[-1]) // 4

    seen: list[Tensor] = []

    class Watched(TinyNet):
        def forward(self, inputs: Tensor) -> Tensor:
            if self.training:
                seen.append(inputs)
            return super().forward(inputs)

    monkeypatch.setattr(budget, "PeakMemory", Meter)
    recipe = tiny_recipe(tmp_path, batch_size=16, epochs=1, memory_budget=1.0)
    _, _, folder = run_tiny(recipe, model=Watched(norm=False), train=tiny_source(64))
    assert [e["from_now_on"] for e in events(folder, "over the memory budget")] == [8, 4]
    assert max(len(x) for x in seen[6:]) <= 4

    recipe = tiny_recipe(tmp_path, batch_size=16, epochs=2, memory_budget=0.2)
    with pytest.raises(RunError, match=r"A step with a single sample at once takes 0\.25 GiB"):
        run_tiny(recipe, model=Watched(norm=False), train=tiny_source(64))


def test_the_process_is_really_measured(tmp_path):
    import psutil

    now = psutil.Process().memory_info().rss / 2**30
    recipe = tiny_recipe(tmp_path, batch_size=64, epochs=2, memory_budget=now + 0.05)
    _, _, folder = run_tiny(recipe, model=Hungry(norm=False), train=tiny_source(64))
    assert events(folder, "over the memory budget")
