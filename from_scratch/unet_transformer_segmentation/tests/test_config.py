"""Configurations: what is read, what is refused, and with which words."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from unet_seg.config import Config, config_from_dict, config_to_dict, load_config
from unet_seg.errors import SegError

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


def refused(values: dict[str, object]) -> str:
    with pytest.raises(SegError) as error:
        config_from_dict(values)
    return str(error.value)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_shipped_configuration_is_read_and_opens_with_its_command(path):
    config = load_config(path)
    assert config.model.num_classes == len(config.data.classes)
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first == f"# python -m unet_seg train --config configs/{path.name}"


def test_defaults_are_a_whole_configuration():
    config = config_from_dict({})
    assert config.data.classes == ("background", "circle", "rectangle", "triangle", "ring", "line")
    assert (config.model.in_channels, config.model.num_classes) == (3, 6)


def test_a_configuration_survives_yaml():
    config = config_from_dict(
        {
            "seed": 3,
            "data": {
                "kind": "folder",
                "folder": {"root": "x", "class_map": {"back": 0, "cell": "1-255", "dirt": [7, 8]}},
            },
            "loss": {"options": {"smooth": 1}},
            "optim": {"lr": "1e-3"},
        }
    )
    assert config.optim.lr == 1e-3  # YAML 1.1 reads 1e-3 as text
    assert config.data.folder.class_map == {"back": 0, "cell": "1-255", "dirt": [7, 8]}
    assert config_from_dict(yaml.safe_load(yaml.safe_dump(config_to_dict(config)))) == config


def test_overrides_reach_every_depth(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("seed: 1\ndata:\n")
    config = load_config(path, ["data.toy.noise=0.5", "train.steps=70", "model.widths=[8, 16]"])
    assert (config.data.toy.noise, config.train.steps, config.seed) == (0.5, 70, 1)
    assert config.model.widths == (8, 16)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("steps", "'steps' is not key=value; write for example train.steps=100."),
        ("seed.x=1", "'seed.x=1': seed holds a value, not keys."),
        ("a=[", "'a=[': '[' is not a YAML value."),
    ],
)
def test_a_bad_override_is_explained(tmp_path, override, message):
    path = tmp_path / "c.yaml"
    path.write_text("seed: 1\n")
    with pytest.raises(SegError) as error:
        load_config(path, [override])
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sed": 1}, "config: unknown key sed. Did you mean seed? Known under the top: name, seed"),
        ({"train": {"step": 1}}, "unknown key train.step. Did you mean train.steps?"),
        ({"train": {"zzz": 1}}, "unknown key train.zzz. Known under train: steps, batch_size"),
        ({"train": 3}, "train holds the number 3, expected keys under it."),
        ({"seed": "x"}, "seed holds the text 'x', expected a whole number."),
        ({"seed": None}, "seed holds nothing, expected a whole number."),
        ({"seed": True}, "seed holds true or false True, expected a whole number."),
        ({"optim": {"lr": "fast"}}, "optim.lr holds the text 'fast', expected a number."),
        ({"optim": {"lr": float("nan")}}, "optim.lr is NaN, expected a number."),
        ({"train": {"deterministic": 1}}, "holds the number 1, expected true or false."),
        ({"model": {"norm": "bach"}}, "model.norm='bach' is unknown. Did you mean batch? Choose"),
        ({"model": {"widths": 3}}, "model.widths holds the number 3, expected a list such as"),
        ({"model": {"widths": ["a"]}}, "model.widths[0] holds the text 'a', expected a whole"),
        ({"data": {"toy": {"image_size": [64]}}}, "data.toy.image_size has 1 values, expected 2."),
        ({"loss": {"options": 1}}, "loss.options holds the number 1, expected names and values"),
        (
            {"data": {"folder": {"root": "x"}}},
            "data.folder.class_map is missing; it has no",
        ),
        (
            {"data": {"folder": {"root": "x", "class_map": {"a": 0, "b": 1.5}}}},
            "data.folder.class_map.b holds the number 1.5, expected a whole number or text or a",
        ),
        ({"data": {"kind": "folder"}}, "data.kind=folder needs data.folder with at least root"),
        (
            {"data": {"folder": {"root": "x", "class_map": {"a": 0}}}},
            "data.folder.class_map has 1 classes; name at least two",
        ),
        (
            {"data": {"folder": {"root": "x", "class_map": {"a": 0, "b": 1}, "valid_fraction": 1}}},
            "data.folder.valid_fraction=1 must be between 0 and 1.",
        ),
        ({"data": {"toy": {"image_size": [4, 64]}}}, "data.toy.image_size=[4, 64]: at least 8."),
        ({"data": {"toy": {"num_valid": 0}}}, "data.toy.num_valid=0: at least 1."),
        ({"data": {"toy": {"shapes": []}}}, "data.toy.shapes is empty; name at least one shape."),
        ({"data": {"toy": {"shapes": ["ring", "ring"]}}}, "names a shape twice."),
        ({"data": {"toy": {"class_weights": [1]}}}, "must be 5 numbers >= 0, one for each of"),
        ({"data": {"toy": {"count": [3, 2]}}}, "data.toy.count=[3, 2] must be [fewest, most]"),
        ({"data": {"toy": {"size": [0.1, 0.7]}}}, "data.toy.size=[0.1, 0.7]: a radius is at most"),
        ({"data": {"toy": {"noise": -1}}}, "data.toy.noise=-1 must not be negative."),
        ({"data": {"toy": {"blur": -1}}}, "data.toy.blur=-1 must not be negative."),
        ({"data": {"toy": {"texture": 2}}}, "data.toy.texture=2 must be in [0, 1]."),
        ({"data": {"augment": {"crop": [4, 4]}}}, "data.augment.crop=[4, 4]: at least 8 pixels."),
        ({"data": {"augment": {"rotate": 200}}}, "data.augment.rotate=200: 0 to 180 degrees."),
        ({"data": {"augment": {"elastic": -1}}}, "data.augment.elastic=-1 must not be negative."),
        ({"data": {"augment": {"elastic_grid": 1}}}, "data.augment.elastic_grid=1: at least 3."),
        ({"data": {"augment": {"hflip": 2}}}, "data.augment.hflip=2 must be in [0, 1]."),
        ({"data": {"std": 0}}, "data.std=0 must be positive."),
        ({"data": {"resize": [2, 2]}}, "data.resize=[2, 2]: at least 8 pixels."),
        ({"model": {"widths": []}}, "model.widths needs numbers >= 1."),
        ({"model": {"convs_per_stage": 0}}, "model.convs_per_stage=0: at least 1."),
        ({"model": {"dropout": 1}}, "model.dropout=1 must be in [0, 1)."),
        ({"model": {"dim": 130}}, "model.dim=130 must be divisible by 4"),
        ({"model": {"depth": 0}}, "model.depth=0: at least 1 block."),
        ({"model": {"window": 1}}, "model.window=1: at least 2."),
        ({"model": {"mlp_ratio": 0}}, "model.mlp_ratio=0 must be positive."),
        ({"model": {"num_classes": 3}}, "model.num_classes=3, but the data has 6 classes"),
        ({"model": {"in_channels": 1}}, "model.in_channels=1, but data.channels=3; leave it out."),
        ({"loss": {"class_weights": [1, 2]}}, "must be 6 numbers >= 0, not all 0, one for each"),
        ({"optim": {"lr": 0}}, "optim.lr=0 must be positive."),
        ({"optim": {"weight_decay": -1}}, "optim.weight_decay=-1 is negative."),
        ({"optim": {"warmup_steps": -1}}, "optim.warmup_steps=-1 is negative."),
        ({"optim": {"warmup_steps": 600}}, "optim.warmup_steps=600 must be below train.steps=600."),
        ({"optim": {"grad_clip": 0}}, "optim.grad_clip=0 must be positive or null."),
        ({"optim": {"ema_decay": 1}}, "optim.ema_decay=1: between 0 and 1."),
        ({"train": {"steps": 0}}, "train.steps=0: at least 1."),
        ({"train": {"checkpoint_every": 0}}, "train.checkpoint_every: at least 1."),
        ({"train": {"num_workers": -1}}, "train.num_workers=-1 is negative."),
        ({"train": {"max_minutes": 0}}, "train.max_minutes=0 must be positive or null."),
        ({"train": {"threads": 0}}, "train.threads=0: at least 1, or null."),
        ({"train": {"accumulate": 9}}, "train.accumulate=9 parts cannot be made of"),
        ({"name": "../x"}, "name='../x' becomes a folder's name: letters, digits, - and _ only."),
        ({"seed": -1}, "seed=-1 must be in [0, 2**32)."),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(values, message):
    assert message in refused(values)


def test_a_missing_file_names_its_neighbours(tmp_path):
    (tmp_path / "near.yaml").write_text("")
    with pytest.raises(SegError, match=r"far.yaml: no such file. There are: .*near.yaml"):
        load_config(tmp_path / "far.yaml")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"seed: [1", r"c.yaml:\d+: is not YAML"),
        (b"- 1\n- 2\n", r"c.yaml: holds the list \[1, 2\], expected keys and values"),
        (b"\xff\xfe\x00", r"c.yaml: cannot be read as a text file"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path, data, message):
    (tmp_path / "c.yaml").write_bytes(data)
    with pytest.raises(SegError, match=message):
        load_config(tmp_path / "c.yaml")


def test_an_empty_file_is_all_defaults(tmp_path):
    (tmp_path / "c.yaml").write_text("")
    assert load_config(tmp_path / "c.yaml") == config_from_dict({})
    assert isinstance(load_config(tmp_path / "c.yaml"), Config)
