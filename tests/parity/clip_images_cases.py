"""Pictures for the comparison of CLIP's image transform, the same bits on every machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIZES = {"shrunk": 16, "enlarged": 24}

SHAPES = {
    "wide": (40, 61),
    "tall": (58, 35),
    "square": (50, 50),
    "small": (9, 12),
    "odd margin": (33, 46),
    "long": (20, 200),
}
"""Height and width."""


def picture(name: str, *, seed: int) -> NDArray[np.uint8]:
    """(H, W, 3): waves of several lengths, edges and noise."""
    height, width = SHAPES[name]
    rng = np.random.Generator(np.random.PCG64(seed + len(name)))
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / a + y / b) for a, b in ((2.1, 9.0), (7.0, 1.7), (3.3, 4.1))]
    edges = ((x // 5 + y // 7) % 2)[..., None] * 60
    noise = rng.integers(-20, 21, (height, width, 3))
    return np.clip(np.stack(waves, axis=2) * 60 + 97 + edges + noise, 0, 255).astype(np.uint8)
