"""Features that the retrieval and zero-shot parity tests are run on; used by both sides."""

from __future__ import annotations

import numpy as np

NUM_PAIRS = 60
CAPTIONS = 3
NUM_PROMPTS, NUM_CLASSES = 4, 5


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def one_caption(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(60, 16) images and texts, pair by pair."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(NUM_PAIRS, 16))
    return unit(images), unit(images + 2 * rng.normal(size=images.shape))


def several_captions(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(20, 16) images and (60, 16) texts, three of each image in turn."""
    rng = np.random.default_rng(seed + 100)
    images = rng.normal(size=(NUM_PAIRS // CAPTIONS, 16))
    texts = images.repeat(CAPTIONS, axis=0) + 2 * rng.normal(size=(NUM_PAIRS, 16))
    return unit(images), unit(texts)


def prompts(seed: int) -> np.ndarray:
    """(4, 5, 16): every prompt with every class, of any length."""
    rng = np.random.default_rng(seed + 200)
    return rng.normal(size=(NUM_PROMPTS, NUM_CLASSES, 16)) * rng.uniform(1, 9, (4, 5, 1))
