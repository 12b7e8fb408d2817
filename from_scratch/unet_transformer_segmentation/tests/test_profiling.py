"""Profiles: the counts against counts by hand, the parts against the whole."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from unet_seg import profiling
from unet_seg.errors import SegError
from unet_seg.flops import count_flops
from unet_seg.models import build_model, count_parameters
from unet_seg.profiling import MIB, Part, Profile, profile
from unet_seg.trainer import make_trainer


class Two(nn.Module):
    """Two parts whose memory is counted in the head: 8 bytes a pixel, then 4 a pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 2, 1, bias=False)
        self.rest = nn.ModuleList([nn.Sequential(nn.ReLU(), nn.Conv2d(2, 1, 1, bias=False))])
        self.unused = nn.Linear(3, 3)

    def forward(self, image):
        return self.rest[0](self.first(image))

    def forward_all(self, image):
        return [self(image)]


@pytest.fixture
def two(make_config):
    """A trainer of `Two` in float32, and an image of 10 x 10."""
    trainer = make_trainer(make_config(train={"channels_last": False}))
    trainer.model = Two()
    return trainer, torch.rand(1, 1, 10, 10)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["unet", "unet_transformer"])
def test_parts_add_up_to_the_whole(make_config, name, precision):
    config = make_config(
        model={"name": name, "deep_supervision": True},
        train={"batch_size": 2, "precision": precision},
    )
    made = profile(config, size=(24, 32), repeats=1)
    parts, total = {part.name: part for part in made.parts}, made.total
    model = build_model(config)
    assert total.parameters == sum(p.parameters for p in made.parts) == count_parameters(model)
    flops = count_flops(model, (3, 24, 32))
    assert total.gmac == pytest.approx(flops["total"] / 1e9)
    assert all(part.gmac == pytest.approx(flops[part.name] / 1e9) for part in made.parts)
    assert {"encoder.0", "bottleneck", "decoder.0", "head"} <= set(parts)
    assert total.milliseconds > 0
    assert parts["encoder.0"].milliseconds > 0
    assert sum(p.kept_mb for p in made.parts) <= total.kept_mb
    assert max(p.peak_mb for p in made.parts) <= total.peak_mb
    assert parts["encoder.0"].kept_mb > parts["encoder.1"].kept_mb > 0
    assert total.peak_mb >= 2 * 6 * 24 * 32 * 4 / MIB  # the logits
    assert (made.batch_size, made.size, made.device) == (2, (24, 32), "cpu")
    assert min(made.train_images_per_s, made.infer_images_per_s, made.peak_memory_mb) > 0


def test_windows_cost_less_memory_than_the_whole_grid(make_config):
    def bottleneck(**model):
        config = make_config(model={"name": "unet_transformer", "widths": [4, 8], **model})
        made = profile(config, size=(64, 64), repeats=1)
        return next(part for part in made.parts if part.name == "bottleneck")

    whole, windows = bottleneck(), bottleneck(window=8)
    assert windows.kept_mb < 0.5 * whole.kept_mb
    assert windows.peak_mb < 0.5 * whole.peak_mb


def test_accumulation_is_what_kept_memory_is_about(make_config):
    one, two = (
        profile(make_config(train={"batch_size": size}), size=(16, 16), repeats=1).total.kept_mb
        for size in (1, 2)
    )
    assert two == pytest.approx(2 * one, rel=0.05)


def test_kept_bytes_are_those_autograd_saves(two):
    trainer, image = two
    kept = profiling._kept_for_backward(trainer, profiling._stages(trainer.model), image)
    # The first convolution saves its input, the image, which does not count; ReLU saves its output,
    # 2 channels of 4 bytes, which the second convolution saves too.
    assert kept == {"first": 0, "rest.0": 800, "unused": 0, "total": 800}


def test_peak_bytes_are_those_alive_at_once(two):
    trainer, image = two
    with torch.no_grad():
        peaks = profiling._peaks(trainer.model, profiling._stages(trainer.model), image)
    # In the second part the output of ReLU and the logits are alive; the output of the first part
    # is let go of once ReLU has read it, which nn.Sequential does not before the convolution.
    assert peaks["first"] == 800
    assert peaks["rest.0"] == 800 + 400
    assert peaks["unused"] == 0
    assert peaks["total"] == 800 + 800 + 400


def test_live_bytes_go_down_again():
    kept = torch.rand(10)
    with profiling._LiveBytes([kept]) as live:
        kept.view(2, 5).add_(1)  # a view and a change in place make nothing
        assert live.peak == 0
        made = kept * 2
        parts = made.split(5)
        assert live.peak == 40
        del made, parts
        assert live.restart() == live.peak == 0
        low, high = torch.rand(4).aminmax()
        del low, high
        assert live.peak == 16 + 4 + 4
    assert live.peak_of_all == 40


def test_a_part_that_inference_leaves_out_takes_no_time(two):
    trainer, image = two
    stages = profiling._stages(trainer.model)
    times = profiling._stage_seconds(trainer.model, stages, image, 2, torch.device("cpu"))
    assert list(times) == ["first", "rest.0", "unused"]
    assert times["unused"] == 0 < times["first"]
    assert not any(module._forward_hooks for module in trainer.model.modules())


def test_the_table_has_a_line_a_part_and_the_figures_are_plain():
    part = Part("encoder.0", 1200, 0.5, 2.0, 3.25, 1.5)
    whole = Part("total", 2400, 1.0, 8.0, 6.5, 3.0)
    made = Profile([part], whole, 2, (16, 32), "cpu", 10.04, 20.0, 300.0)
    assert made.table().splitlines() == [
        "part                         parameters       GMAC         ms      share   kept MiB"
        "   peak MiB",
        "encoder.0                         1,200      0.500       2.00        25%       3.25"
        "       1.50",
        "total                             2,400      1.000       8.00       100%       6.50"
        "       3.00",
        "batch 2 of 16x32 on cpu: training 10.0 images/s, inference 20.0 images/s, peak memory "
        "300 MiB",
    ]
    figures = json.loads(json.dumps(made.to_dict()))
    assert figures["parts"][0]["kept_mb"] == 3.25
    assert figures["total"]["name"] == "total"


@pytest.mark.parametrize(("size", "repeats"), [((0, 8), 1), ((8, -8), 1), ((8, 8), 0)])
def test_sizes_and_repeats_below_one_are_refused(make_config, size, repeats):
    with pytest.raises(SegError) as error:
        profile(make_config(), size=size, repeats=repeats)
    assert str(error.value) == f"size={list(size)} and repeats={repeats} must be at least 1."


@pytest.mark.parametrize(("kind", "waits"), [("cpu", []), ("cuda", ["cuda"]), ("mps", ["mps"])])
def test_a_device_that_queues_is_waited_for(monkeypatch, kind, waits):
    waited = []
    monkeypatch.setattr("torch.cuda.synchronize", lambda _device: waited.append("cuda"))
    monkeypatch.setattr("torch.mps.synchronize", lambda: waited.append("mps"))
    profiling._wait(torch.device(kind))
    assert waited == waits
