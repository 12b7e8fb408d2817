"""Read torchvision and timm weight files: bytes -> tensors by our names (timm's).

`read_weights` is the way in; `tasks/tensor_files.py` reads the bytes.
"""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor

from maquette.tasks.tensor_files import read_tensors


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a weight file, without containers and prefixes, under our names.

    Raises:
        UsageError: there is no such file.
        DataError: it cannot be read as weights.
    """
    return {native_key(key): value for key, value in read_tensors(path).items()}


_TORCHVISION_ENDS = {
    "features.0.0": "conv_stem",
    "features.0.1": "bn1",
    "features.8.0": "conv_head",
    "features.8.1": "bn2",
    "classifier.1": "classifier",
}
_TORCHVISION_FIRST_STAGE = {
    "0.0": "conv_dw",
    "0.1": "bn1",
    "1.fc1": "se.conv_reduce",
    "1.fc2": "se.conv_expand",
    "2.0": "conv_pw",
    "2.1": "bn2",
}
_TORCHVISION_OTHER_STAGES = {
    "0.0": "conv_pw",
    "0.1": "bn1",
    "1.0": "conv_dw",
    "1.1": "bn2",
    "2.fc1": "se.conv_reduce",
    "2.fc2": "se.conv_expand",
    "3.0": "conv_pwl",
    "3.1": "bn3",
}


def native_key(key: str) -> str:
    """Rename a torchvision EfficientNet key to ours (timm's); other keys stay as they are.

    torchvision numbers layers by position: features.S.I.block.J is layer J of block I of stage S,
    counted from 1, where the first stage has no expansion and so one layer less.
    """
    module, _, tensor = key.rpartition(".")
    if module in _TORCHVISION_ENDS:
        return f"{_TORCHVISION_ENDS[module]}.{tensor}"
    parts = re.fullmatch(r"features\.([1-7])\.(\d+)\.block\.(.+)", module)
    if parts is None:
        return key
    stage, block, layer = int(parts[1]), parts[2], parts[3]
    layers = _TORCHVISION_FIRST_STAGE if stage == 1 else _TORCHVISION_OTHER_STAGES
    return f"blocks.{stage - 1}.{block}.{layers[layer]}.{tensor}" if layer in layers else key
