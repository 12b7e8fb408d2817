"""Weight files of any origin, read as data alone: a pickle that would run code is refused.

`read_tensors` is the way in; which names the tensors have is the business of each task.
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
from maquette.tasks.torchscript_files import is_torchscript, read_torchscript

CONTAINERS = ("state_dict_ema", "model_ema", "ema", "state_dict", "model")
"""Where training checkpoints keep the weights; averaged weights come first when there are any."""
PREFIXES = ("module.", "model.", "_orig_mod.")
"""What wrappers (data parallel, Lightning, torch.compile) put before every name."""
SHOWN = 8
"""Keys listed in an error; the rest is counted."""
_AGAIN = "Download or copy it again and compare its checksum."


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a weight file, without containers and prefixes.

    Safetensors, what torch.save wrote, and TorchScript archives, of which the tensors are taken.

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
                tensors[_without_prefixes(str(key))] = value
    if not tensors:
        keys = f"the keys {some(map(str, content))}" if isinstance(content, Mapping) else ""
        raise DataError(
            f"{path} holds no tensors, only {keys or type(content).__name__}. Expected a state "
            f"dictionary, plain or under one of: {', '.join(CONTAINERS)}."
        )
    return tensors


def refuse_not_finite(tensors: Mapping[str, Tensor], path: Path | str) -> None:
    """Refuse weights that are no numbers.

    Raises:
        DataError: names the tensors that hold NaN or infinity.
    """
    bad = [key for key, value in tensors.items() if not torch.isfinite(value).all()]
    if bad:
        raise DataError(f"{path} holds NaN or infinity in {some(bad)}; take another checkpoint.")


def some(keys: Iterable[str]) -> str:
    """List the first few keys and count the rest."""
    keys = list(keys)
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return ", ".join(keys[:SHOWN]) + more


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


def _read_pickle(path: Path) -> Any:
    try:
        if is_torchscript(path):
            return read_torchscript(path)
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
