"""Settings of a run: defaults, what is refused and with which words, and the way through YAML."""

from pathlib import Path

import pytest
import yaml

from paraformer_asr.config import (
    Config,
    LossConfig,
    ManifestConfig,
    ModelConfig,
    config_from_dict,
    config_to_dict,
    load_config,
)
from paraformer_asr.errors import AsrError

SUBPROJECT = Path(__file__).resolve().parents[1]

EVERYTHING = {
    "name": "all",
    "data": {
        "kind": "manifest",
        "manifest": {"path": "m.csv", "hold_out_speaker": "jo", "join": {"count": [2, 3]}},
        "characters": "abc ",
        "augment": {"speeds": [0.9, 1, 1.1], "noise_db": [5, 20]},
    },
    "features": {"stack": 7, "stride": 6},
    "model": {"encoder": "sanm", "stream": {"chunk": 4}},
    "optim": {"average": 0.99, "grad_clip": None},
    "train": {"threads": 1, "max_minutes": 0.5},
}


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("name: small\nmodel:\n  dim: 64\n", "utf-8")
    return path


def test_a_file_and_assignments_make_a_configuration(config_file):
    config = load_config(config_file, ["optim.lr=1e-3", "model.heads=2", "data.augment.warp=0.1"])
    assert (config.name, config.model.dim, config.model.heads) == ("small", 64, 2)
    assert config.optim.lr == 0.001
    assert config.data.augment.warp == 0.1


@pytest.mark.parametrize("values", [{"name": "few"}, EVERYTHING])
def test_a_configuration_survives_yaml(values):
    config = config_from_dict(values)
    text = yaml.safe_dump(config_to_dict(config), allow_unicode=True)
    assert config_from_dict(yaml.safe_load(text)) == config


def test_the_file_begins_the_message(config_file):
    config_file.write_text("name: small\nmodel:\n  dimm: 64\n", "utf-8")
    with pytest.raises(AsrError) as caught:
        load_config(config_file)
    assert str(caught.value).startswith(
        f"{config_file}: model.dimm is no setting. Did you mean dim?"
    )


def test_a_run_needs_a_name():
    with pytest.raises(AsrError, match=r"^configuration: name is needed and has no default"):
        config_from_dict({})


def section(dotted: str, value: object) -> dict:
    """The values {"name": "x", "a": {"b": value}} of "a.b"."""
    values: dict = {"name": "x"}
    *path, last = dotted.split(".")
    inner = values
    for name in path:
        inner = inner.setdefault(name, {})
    inner[last] = value
    return values


AT_LEAST = [
    ("seed", -1, 0),
    ("features.sample_rate", 10, 1000),
    ("features.num_mels", 0, 1),
    ("features.stack", 0, 1),
    ("features.dither", -1.0, 0),
    ("features.cmvn_utterances", 0, 1),
    ("data.toy.num_train", 0, 1),
    ("data.toy.num_valid", 0, 1),
    ("data.toy.num_test", 0, 1),
    ("data.toy.noise", -0.5, 0),
    ("data.augment.gain_db", -1.0, 0),
    ("data.augment.freq_masks", -1, 0),
    ("data.augment.freq_width", -1, 0),
    ("data.augment.time_masks", -1, 0),
    ("data.augment.time_width", -1, 0),
    ("data.batch_frames", 0, 1),
    ("data.max_batch", 0, 1),
    ("model.stream.chunk", 0, 1),
    ("model.stream.left", -1, 0),
    ("model.stream.right", -1, 0),
    ("model.dim", 0, 1),
    ("model.heads", 0, 1),
    ("model.ffn", 0, 1),
    ("model.encoder_layers", 0, 1),
    ("model.decoder_layers", 0, 1),
    ("model.kernel", 0, 1),
    ("loss.quantity", -1.0, 0),
    ("loss.mwer", -1.0, 0),
    ("loss.mwer_samples", 1, 2),
    ("optim.weight_decay", -1.0, 0),
    ("optim.warmup_steps", -1, 0),
    ("train.steps", 0, 1),
    ("train.accumulate", 0, 1),
    ("train.valid_every", 0, 1),
    ("train.log_every", 0, 1),
    ("train.checkpoint_every", 0, 1),
    ("train.threads", 0, 1),
]

REFUSED = [
    ("features.stride", 2, "features.stride=2 must be from 1 to 1."),
    ("data.toy.alphabet", "a", "data.toy.alphabet needs at least two characters."),
    ("data.toy.alphabet", "aba", "data.toy.alphabet='aba' repeats a character."),
    ("data.toy.alphabet", "a b", "data.toy.alphabet='a b' holds white space; tokens must be"),
    ("data.toy.tokens", [0, 3], "data.toy.tokens=[0, 3] must be [least, most] with 1 <= least"),
    ("data.toy.tokens", [5, 3], "data.toy.tokens=[5, 3] must be [least, most] with 1 <= least"),
    ("data.toy.duration", [1, 3], "data.toy.duration=[1, 3] must be [least, most] with 2 <="),
    ("data.toy.silence", [-1, 3], "data.toy.silence=[-1, 3] must be [least, most] with 0 <="),
    ("data.toy.coarticulation", 4, "data.toy.coarticulation=4 must be from 0 to 3."),
    ("data.toy.speakers", 1.5, "data.toy.speakers=1.5 must be from 0 to 1."),
    ("data.augment.speeds", [], "data.augment.speeds=[] must be numbers from 0.5 to 2."),
    ("data.augment.speeds", [0.4], "data.augment.speeds=[0.4] must be numbers from 0.5 to 2."),
    ("data.augment.noise_db", [-30, 0], "data.augment.noise_db=[-30.0, 0.0] must be [least,"),
    ("data.augment.warp", 0.5, "data.augment.warp=0.5 must be from 0 to 0.3."),
    ("data.kind", "manifest", "data.kind=manifest needs data.manifest.path, a CSV with the"),
    ("data.kind", "toys", "data.kind='toys' is none of: toy, manifest. Did you mean toy?"),
    ("model.dim", 30, "model.dim=30 must be even and divisible by model.heads=4."),
    ("model.kernel", 4, "model.kernel=4 must be odd."),
    ("model.dropout", 1.0, "model.dropout=1 must be in [0, 1)."),
    ("model.norm_eps", 0.0, "model.norm_eps=0 must be above 0."),
    ("model.tail", 1.0, "model.tail=1 must be in [0, 1)."),
    ("model.sampling_ratio", 1.5, "model.sampling_ratio=1.5 must be from 0 to 1."),
    ("model.subsampling", "conv2d", "model.subsampling=conv2d is the conformer's; transformer"),
    ("model.ctc", False, "loss.ctc=0.3 needs the CTC head: set model.ctc=true or loss.ctc=0."),
    ("loss.ctc", 1.5, "loss.ctc=1.5 must be from 0 to 1."),
    ("loss.label_smoothing", 1.0, "loss.label_smoothing=1 must be in [0, 1)."),
    ("optim.lr", 0.0, "optim.lr=0 must be above 0."),
    ("optim.final_lr", 2.0, "optim.final_lr=2 must be from 0 to 1."),
    ("optim.betas", [0.9, 1.0], "optim.betas=[0.9, 1.0] must be two numbers in [0, 1)."),
    ("optim.grad_clip", 0.0, "optim.grad_clip=0: above 0, or null."),
    ("optim.average", 1.0, "optim.average=1: between 0 and 1, or null."),
    ("train.max_minutes", 0.0, "train.max_minutes=0: above 0, or null."),
    *(
        ("name", name, f"name={name!r} becomes part of a folder's name: no space, slash or leading")
        for name in ("", "a b", "a/b", "a\\b", ".a")
    ),
]


@pytest.mark.parametrize(("key", "value", "least"), AT_LEAST)
def test_a_number_below_its_least_is_refused_and_the_least_is_taken(key, value, least):
    with pytest.raises(AsrError) as caught:
        config_from_dict(section(key, value))
    assert str(caught.value) == f"configuration: {key}={value:g} must be at least {least:g}."
    fitting = section(key, type(value)(least))
    fitting.setdefault("model", {}).setdefault("heads", 1)
    if key == "model.dim":  # must be even too
        fitting["model"]["dim"] = 2
    assert isinstance(config_from_dict(fitting), Config)


@pytest.mark.parametrize(("key", "value", "message"), REFUSED)
def test_what_cannot_be_meant_is_refused_by_name(key, value, message):
    with pytest.raises(AsrError) as caught:
        config_from_dict(section(key, value))
    assert str(caught.value).startswith(f"configuration: {message}")


@pytest.mark.parametrize("name", ["valid_fraction", "test_fraction"])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_part_held_out_is_neither_nothing_nor_all(name, value):
    with pytest.raises(AsrError) as caught:
        ManifestConfig(path="m.csv", **{name: value})
    message = f"data.manifest.{name}={value:g} must lie between 0 and 1."
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("join", "message"),
    [
        ({"count": [0, 1]}, "data.manifest.join.count=[0, 1] must be [least, most] with 1 <="),
        ({"pause": [0.5, 0.1]}, "data.manifest.join.pause=[0.5, 0.1] must be [least, most]"),
        ({"num_test": 0}, "data.manifest.join.num_test=0 must be at least 1."),
    ],
)
def test_joining_is_checked_too(join, message):
    with pytest.raises(AsrError) as caught:
        config_from_dict(section("data.manifest", {"path": "m.csv", "join": join}))
    assert str(caught.value).startswith(f"configuration: {message}")


def test_the_conformer_does_not_stream():
    with pytest.raises(AsrError) as caught:
        config_from_dict({"name": "x", "model": {"encoder": "conformer", "stream": {}}})
    assert "model.stream needs model.encoder=transformer or sanm: the conformer's batch" in str(
        caught.value
    )


def test_values_made_in_python_are_checked_as_those_of_files_are():
    with pytest.raises(AsrError, match="must be even and divisible"):
        ModelConfig(dim=10, heads=4)
    assert LossConfig(ctc=1.0).ctc == 1.0


def test_every_shipped_configuration_is_read_and_opens_with_its_command():
    paths = sorted((SUBPROJECT / "configs").glob("*.yaml"))
    assert {"tiny.yaml", "default.yaml"} <= {path.name for path in paths}
    for path in paths:
        assert load_config(path).name
        header = "".join(
            line
            for line in path.read_text("utf-8").splitlines(keepends=True)
            if line.startswith("#")
        )
        command = f"python -m paraformer_asr train --config configs/{path.name}"
        assert command in header, path.name
