"""The distribution of a split of images, as JSON: what monitoring compares live inputs with."""

from __future__ import annotations

from collections import Counter

import numpy as np

from maquette.tasks.base import Json
from maquette.tasks.image_profile import image_numbers, number_profiles
from maquette.tasks.vision.data import ImageSamples


def image_profile(samples: ImageSamples) -> Json:
    """Describe what the images look like, how large they came, and the classes."""
    numbers = image_numbers(samples.read(range(len(samples))))
    heights, widths = samples.sizes.T.astype(np.float64)
    return {
        "num_rows": len(samples),
        "numbers": number_profiles(numbers | {"height": heights, "width": widths}),
        "target": {
            "count": len(samples),
            "missing": 0,
            "values": dict(Counter(samples.labels.tolist()).most_common()),
            "other": 0,
        },
    }
