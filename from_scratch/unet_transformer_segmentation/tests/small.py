"""A configuration small enough to train in a second or two."""

from __future__ import annotations

from pathlib import Path

import yaml

from unet_seg.config import Config, config_from_dict, config_to_dict


def small_config(out: Path, **sections: object) -> Config:
    """Six steps on toy images of 32 x 32; `sections` are merged over it, as in train={"steps": 9}.

    `out` is the folder for run folders.
    """
    values: dict[str, object] = {
        "name": "test",
        "out": str(out),
        "data": {"toy": {"image_size": [32, 32], "num_train": 16, "num_valid": 4, "num_test": 4}},
        "model": {"widths": [4, 8, 8], "norm": "group", "dim": 16, "depth": 1, "heads": 2},
        "optim": {"warmup_steps": 0},
        "train": {
            "steps": 6,
            "batch_size": 4,
            "valid_every": 3,
            "checkpoint_every": 2,
            "log_every": 1,
            "device": "cpu",
        },
    }
    for name, section in sections.items():
        old = values.get(name)
        values[name] = {**old, **section} if isinstance(old, dict) else section  # type: ignore[dict-item]
    return config_from_dict(values)


def write_config(path: Path, config: Config) -> Path:
    """Save a configuration as the YAML file `path`."""
    path.write_text(yaml.safe_dump(config_to_dict(config)))
    return path
