"""Small WAV files and manifests for the tests of the data; scripts as modules."""

from __future__ import annotations

import csv
import importlib.util
import wave
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from paraformer_asr.config import (
    AugmentConfig,
    Config,
    DataConfig,
    FeatureConfig,
    JoinConfig,
    LossConfig,
    ManifestConfig,
    ModelConfig,
)

RATE = 8000
WINDOW = 200
"""Samples of 25 ms at RATE."""


def write_tone(
    path: Path,
    *,
    samples: int = 2400,
    seed: int = 0,
    rate: int = RATE,
    channels: int = 1,
    level: float = 0.3,
    noise: float = 0.01,
) -> None:
    """A tone of its own pitch with noise, 16-bit PCM; half of it is quiet."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples) / rate
    tone = level * np.sin(2 * np.pi * rng.uniform(200, 3000) * time) * (time > time[-1] / 2)
    values = np.clip(tone + noise * rng.standard_normal(samples), -1, 1)
    pcm = np.repeat((values * 32767).astype("<i2")[:, None], channels, axis=1)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm.tobytes())


def write_csv(path: Path, rows: Sequence[Sequence[str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    return path


def write_digits(
    folder: Path, *, speakers: Sequence[str] = ("ann", "bob"), takes: int = 6, split: bool = True
) -> Path:
    """Recordings of the texts 0 to 4 and their manifest: of each text, take 0 is test, 1 valid."""
    rows = [["path", "text", "speaker", *(["split"] if split else [])]]
    for s, speaker in enumerate(speakers):
        for digit in range(5):
            for take in range(takes):
                name = f"{digit}_{speaker}_{take}.wav"
                seed = 1000 * s + 100 * digit + take
                write_tone(folder / name, samples=1600 + 7 * seed % 900, seed=seed)
                where = {0: "test", 1: "valid"}.get(take, "train")
                rows.append([name, str(digit), speaker, *([where] if split else [])])
    return write_csv(folder / "manifest.csv", rows)


def config_for(
    manifest: Path,
    *,
    seed: int = 0,
    join: JoinConfig | None = None,
    augment: AugmentConfig | None = None,
    model: ModelConfig | None = None,
    loss: LossConfig | None = None,
    stack: tuple[int, int] = (1, 1),
    dither: float = 0.0,
    data: dict[str, Any] | None = None,
    **settings: Any,
) -> Config:
    """A configuration with recordings at RATE and 8 mel channels; `settings` of the manifest."""
    return Config(
        name="test",
        seed=seed,
        features=FeatureConfig(
            sample_rate=RATE, num_mels=8, stack=stack[0], stride=stack[1], dither=dither
        ),
        data=DataConfig(
            kind="manifest",
            manifest=ManifestConfig(path=str(manifest), join=join, **settings),
            augment=augment or AugmentConfig(),
            **(data or {}),
        ),
        model=model or ModelConfig(),
        loss=loss or LossConfig(),
    )


def load_script(name: str) -> ModuleType:
    """The module of scripts/NAME.py, which is no part of the package."""
    path = Path(__file__).parents[1] / "scripts" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
