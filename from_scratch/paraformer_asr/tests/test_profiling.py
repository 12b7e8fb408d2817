"""Multiply-adds by hand, every part in the table, speeds that fit together."""

import pytest
import torch
from torch import nn

from paraformer_asr.config import Config, config_from_dict
from paraformer_asr.errors import AsrError
from paraformer_asr.models import build_model
from paraformer_asr.profiling import count_multiply_adds, profile


@pytest.fixture(autouse=True)
def _precision_is_put_back():
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def small(**model) -> Config:
    sizes = {"dim": 16, "heads": 2, "ffn": 32, "encoder_layers": 1, "decoder_layers": 1}
    values = {"name": "small", "model": sizes | model, "features": {"num_mels": 20}}
    return config_from_dict(values | {"train": {"device": "cpu", "fast_matmul": False}})


def test_products_and_convolutions_are_counted_by_hand():
    x = torch.randn(2, 5, 8)
    assert count_multiply_adds(lambda: nn.Linear(8, 3)(x)) == 2 * 5 * 8 * 3
    assert count_multiply_adds(lambda: nn.Linear(8, 3, bias=False)(x)) == 2 * 5 * 8 * 3
    assert count_multiply_adds(lambda: x @ x.transpose(1, 2)) == 2 * 5 * 5 * 8
    assert count_multiply_adds(lambda: torch.baddbmm(torch.zeros(2, 5, 5), x, x.mT)) == 400
    assert count_multiply_adds(lambda: nn.Conv1d(5, 4, 3)(x)) == 2 * 4 * 6 * 5 * 3
    assert count_multiply_adds(lambda: nn.Conv1d(5, 5, 3, padding=1, groups=5)(x)) == 2 * 5 * 8 * 3
    assert count_multiply_adds(lambda: nn.ConvTranspose1d(5, 4, 2)(x)) == 2 * 5 * 8 * 4 * 2
    assert count_multiply_adds(lambda: x.softmax(2) + x) == 0


@pytest.mark.parametrize("encoder", ["transformer", "conformer", "sanm"])
def test_every_part_of_every_encoder_is_measured(encoder):
    config = small(encoder=encoder)
    report = profile(config, seconds_of_audio=0.5, batch=2, repeats=1)
    parts = {part.name: part for part in report.parts}
    assert list(parts) == ["features", "encoder", "predictor", "decoder", "ctc"]
    for name, part in parts.items():
        assert part.forward > 0
        assert part.multiply_adds > 0
        if name != "features":
            assert part.backward is not None
            assert part.backward > 0
    model = build_model(config)
    assert report.sum().parameters == sum(p.numel() for p in model.parameters())
    frames = 1 + (8000 - 400) // 160
    assert parts["ctc"].multiply_adds == 2 * frames * 16 * model.tokenizer.size
    assert report.tokens == 2


def test_speeds_and_sums_are_numbers():
    report = profile(small(), seconds_of_audio=0.5, batch=2, repeats=3)
    assert report.real_time_factor > 0
    assert report.real_time_factor_with_features > 0
    assert report.train_utterances_per_second > 0
    assert report.peak_memory_mib > 10
    assert report.sum().backward == pytest.approx(sum(p.backward or 0 for p in report.parts))


def test_the_table_says_what_was_measured():
    report = profile(small(ctc=True), seconds_of_audio=0.5, batch=2, repeats=1)
    lines = report.table().splitlines()
    assert " ".join(lines[0].split()) == "part parameters Mmadd forward ms backward ms"
    names = [line.split()[0] for line in lines[1:7]]
    assert names == ["features", "encoder", "predictor", "decoder", "ctc", "sum"]
    assert lines[7].startswith("batch of 2 x 0.5 s, 2 tokens each; cpu, ")
    assert lines[7].endswith("threads; fp32 products: highest")
    assert lines[8].startswith("training: ")
    assert lines[9].startswith("decoding one utterance: real-time factor ")
    assert lines[10].startswith("peak memory: ")


def test_a_model_without_ctc_has_no_such_row():
    config = config_from_dict(
        {
            **{"name": "small", "features": {"num_mels": 20}, "loss": {"ctc": 0.0}},
            "model": {"dim": 16, "heads": 2, "ffn": 32, "encoder_layers": 1, "ctc": False},
        }
    )
    report = profile(config, seconds_of_audio=0.25, batch=1, repeats=1)
    assert [part.name for part in report.parts] == ["features", "encoder", "predictor", "decoder"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 0}, "batch=0, repeats=5 and seconds=5: expected at least 1, 1 and 0.25."),
        ({"repeats": 0}, "batch=8, repeats=0 and seconds=5: expected"),
        ({"seconds_of_audio": 0.1}, "batch=8, repeats=5 and seconds=0.1: expected"),
    ],
)
def test_nothing_to_measure_is_refused(changes, message):
    with pytest.raises(AsrError) as caught:
        profile(small(), **changes)
    assert str(caught.value).startswith(message)
