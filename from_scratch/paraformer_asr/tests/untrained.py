"""A tiny untrained model and things to recognise, for the tests of everything that uses a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from paraformer_asr.audio import write_wav
from paraformer_asr.checkpoints import Loaded
from paraformer_asr.config import Config, config_from_dict
from paraformer_asr.models import Paraformer, build_model

NUM_MELS = 20


def tiny_config(**model: Any) -> Config:
    sizes = {
        "dim": 16,
        "heads": 2,
        "ffn": 32,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "kernel": 3,
    }
    return config_from_dict(
        {
            "name": "untrained",
            "data": {
                "toy": {"alphabet": "abcdef", "num_train": 12, "num_valid": 5, "num_test": 9},
                "batch_frames": 300,
            },
            "features": {"num_mels": NUM_MELS, "stack": 3, "stride": 2},
            "model": {**sizes, **model},
        }
    )


def tiny_model(**model: Any) -> Paraformer:
    """Weights repeat; alphas are about 0.2, a token in five frames, and depend on the features."""
    torch.manual_seed(5)
    made = build_model(tiny_config(**model))
    made.frontend.scale.fill_(0.1)
    torch.nn.init.constant_(made.predictor.output.bias, -1.3)
    return made


def silence(model: Paraformer) -> None:
    """Make the model hear no token in anything, as a model early in training may."""
    torch.nn.init.zeros_(model.predictor.output.weight)
    torch.nn.init.constant_(model.predictor.output.bias, -20)


def loaded(model: Paraformer) -> Loaded:
    return Loaded(
        model=model.eval(),
        config=model.config,
        step=7,
        device=torch.device("cpu"),
        path=Path("untrained.pt"),
    )


def tone(seconds: float = 1.0, *, rate: int = 16000, seed: int = 0) -> np.ndarray:
    """A voice-like buzz whose pitch wanders, with a little noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    pitch = 120 + 40 * np.sin(2 * np.pi * (0.7 + seed) * time)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    wave = sum(np.sin(k * phase) / k for k in range(1, 12)) * 0.1
    return (wave + 0.01 * rng.standard_normal(len(time))).astype(np.float32)


def recording(path: Path, seconds: float = 1.0, *, seed: int = 0) -> Path:
    """A WAV file of `tone`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_wav(path, tone(seconds, seed=seed), 16000)
    return path


def features(path: Path, num_frames: int = 60, *, seed: int = 0) -> Path:
    """A .npy file of log-mel-like frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    np.save(path, (10 + 2 * rng.standard_normal((num_frames, NUM_MELS))).astype(np.float32))
    return path


def png_size(path: Path) -> tuple[int, int]:
    """Width and height of a PNG file, which must be whole."""
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert content.endswith(b"IEND\xaeB`\x82")
    return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")
