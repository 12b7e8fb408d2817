"""The distribution of a split of pairs, as JSON: what monitoring compares live inputs with."""

from __future__ import annotations

from collections import Counter

import numpy as np

from maquette.tasks.base import Json
from maquette.tasks.image_profile import image_numbers, number_profiles
from maquette.tasks.image_text.data import ImageTextSamples


def pair_profile(samples: ImageTextSamples) -> Json:
    """Describe what the images look like, how long the texts are, and the classes."""
    size = samples.store.size
    numbers = image_numbers(samples.store.stream((int(n), size) for n in samples.images))
    words = np.array([len(texts[0].split()) for texts in samples.texts], dtype=np.float64)
    profile: Json = {
        "num_rows": len(samples),
        "numbers": number_profiles(numbers | {"words": words}),
    }
    if samples.labels is not None:
        profile["target"] = {
            "count": len(samples),
            "missing": 0,
            "values": dict(Counter(samples.labels.tolist()).most_common()),
            "other": 0,
        }
    return profile
