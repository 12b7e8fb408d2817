"""Read torchvision and timm weight files: bytes -> tensors by our names (timm's).

`read_weights` is the way in. Files are read as data alone: a pickle that would run code is refused.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from maquette.errors import DataError, UsageError

CONTAINERS = ("state_dict_ema", "model_ema", "ema", "state_dict", "model")
"""Where training checkpoints keep the weights; averaged weights come first when there are any."""
PREFIXES = ("module.", "model.", "_orig_mod.")
"""What wrappers (data parallel, Lightning, torch.compile) put before every name."""
SHOWN = 8
"""Keys listed in an error; the rest is counted."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a weight file, without containers and prefixes, under our names.

    Raises:
        UsageError: there is no such file.
        DataError: it cannot be read as weights.
    """
    content = _read_file(path)
    for name in CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
            break
    tensors = {}
    if isinstance(content, Mapping):
        for key, value in content.items():
            if isinstance(value, Tensor):
                tensors[native_key(_without_prefixes(str(key)))] = value
    if not tensors:
        keys = f"the keys {some(map(str, content))}" if isinstance(content, Mapping) else ""
        raise DataError(
            f"{path} holds no tensors, only {keys or type(content).__name__}. Expected a state "
            f"dictionary, plain or under one of: {', '.join(CONTAINERS)}."
        )
    return tensors


def _read_file(path: Path) -> Any:
    """Read a file by what it begins with, not by its suffix: names of downloads are unreliable."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise UsageError(
            f"model.architecture.weights: {path} {what}; give a .safetensors, .pt or .pth file."
        )
    try:
        with path.open("rb") as file:
            start = file.read(64)
        if start.startswith((b"PK\x03\x04", b"\x80")):
            return _read_pickle(path)
        if start[8:9] == b"{":
            return safetensors.torch.load_file(path)
    except OSError as error:
        raise DataError(f"Could not read {path}: {error.strerror or error}.") from None
    except safetensors.SafetensorError as error:
        raise DataError(f"{path} is a damaged safetensors file: {error}. {_AGAIN}") from None
    hint = " It is a Git LFS pointer; fetch the file itself with `git lfs pull`."
    raise DataError(
        f"{path} is not a weight file: it begins with {start[:16]!r}; expected safetensors or a "
        f"file written by torch.save.{hint if start.startswith(b'version https://git-lfs') else ''}"
    )


_AGAIN = "Download or copy it again and compare its checksum."


def _read_pickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        if found is None:
            raise DataError(f"{path} is damaged: {_first_line(error)} {_AGAIN}") from None
        raise DataError(
            f"{path} holds Python objects besides tensors ({found[1]}), which could run code, so "
            "it was not opened. Save the weights alone, where you trust the file: "
            "torch.save(model.state_dict(), 'weights.pth')."
        ) from None
    except Exception as error:  # a damaged pickle can fail in any of torch's and pickle's ways
        raise DataError(f"{path} is damaged: {_first_line(error)} {_AGAIN}") from None


def _first_line(error: Exception) -> str:
    line = str(error).strip().partition("\n")[0].rstrip(".")
    return f"{line or type(error).__name__}."


def _without_prefixes(key: str) -> str:
    while key.startswith(PREFIXES):
        key = key.partition(".")[2]
    return key


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


def some(keys: Iterable[str]) -> str:
    """List the first few keys and count the rest."""
    keys = list(keys)
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return ", ".join(keys[:SHOWN]) + more
