"""A configuration small enough to train in a second, for many tests."""

from __future__ import annotations

from typing import Any

from paraformer_asr.config import Config, config_from_dict


def small_config(**sections: dict[str, Any] | object) -> Config:
    """A toy run of 6 steps; sections given are merged over these."""
    values: dict[str, Any] = {
        "name": "small",
        "data": {
            "toy": {
                "alphabet": "abcd",
                "num_train": 24,
                "num_valid": 6,
                "num_test": 6,
                "tokens": [1, 4],
                "duration": [6, 8],
            },
            "batch_frames": 200,
        },
        "features": {"num_mels": 20, "stack": 3, "stride": 2},
        "model": {
            "dim": 16,
            "heads": 2,
            "ffn": 16,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "kernel": 3,
        },
        "optim": {"warmup_steps": 2},
        "train": {
            "steps": 6,
            "valid_every": 3,
            "checkpoint_every": 2,
            "log_every": 1,
            "device": "cpu",
            "fast_matmul": False,
        },
    }
    return config_from_dict(merged(values, sections))


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        inside = isinstance(value, dict) and isinstance(base.get(key), dict)
        result[key] = merged(base[key], value) if inside else value
    return result
