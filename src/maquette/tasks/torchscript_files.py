"""Take the tensors out of a TorchScript archive without running or compiling what is in it.

OpenAI publishes CLIP in this form: a zip with programs under `code/`, a pickle `data.pkl` of the
module's attributes, and the bytes of every tensor under `data/`. The programs are not looked at.
The pickle is read by an unpickler that knows a few harmless names and refuses all others: modules
become plain objects, whatever their class was.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_LISTS = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist")


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive: a zip with a table of program constants."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Return parameters and buffers by their dotted names, on the CPU, in their own dtype.

    Raises:
        pickle.UnpicklingError: there is something else than tensors and modules in it.
        Exception: of zipfile, pickle and torch where the file is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        (index,) = [n for n in archive.namelist() if n.endswith("/data.pkl") and n.count("/") == 1]
        root = index.removesuffix("data.pkl")
        order = f"{root}byteorder"
        if order in archive.namelist() and archive.read(order).strip() != b"little":
            raise pickle.UnpicklingError("its numbers are big-endian")
        module = _Unpickler(archive, root).load()
    return dict(_tensors(module, ""))


class _Module:
    """Stands for any module; its attributes are those that were saved."""


class _Unpickler(pickle.Unpickler):
    """Knows tensors, their storages, lists and modules, and nothing else."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(BytesIO(archive.read(f"{root}data.pkl")))
        self._archive = archive
        self._root = root
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return _Module
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if module == "torch.jit._pickle" and name in (*_LISTS, "restore_type_tag"):
            return _first
        raise pickle.UnpicklingError(f"GLOBAL {module}.{name}")

    def persistent_load(self, pid: Any) -> Tensor:
        """Read one storage, ("storage", dtype, name, device, count), as a flat tensor."""
        _, dtype, name, _, count = pid
        if name not in self._storages:
            content = bytearray(self._archive.read(f"{self._root}data/{name}"))
            flat = (
                torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
            )
            if flat.numel() < count:
                raise pickle.UnpicklingError(f"storage {name} is cut short")
            self._storages[name] = flat
        return self._storages[name]


def _rebuild(flat: Tensor, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    """Return a tensor of its own from a storage; torch refuses what lies outside of it."""
    return torch.as_strided(flat, tuple(size), tuple(stride), offset).clone()


def _first(value: Any, *_: Any) -> Any:
    return value


def _tensors(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor below a module with its dotted name."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, _Module):
        for key, child in vars(value).items():
            yield from _tensors(child, f"{name}.{key}" if name else key)
