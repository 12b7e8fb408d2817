"""Data: where samples come from and how they become batches.

Start reading at `sample.py` (what a sample is) and `toy.py` (the synthetic one); then `folder.py`
(your own files), `transforms.py` and `batches.py`. The names below are loaded when first used, so
that reading a folder of images does not load the toy generator, and the other way round.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unet_seg.data.folder import FolderDataset as FolderDataset
    from unet_seg.data.sample import IGNORE as IGNORE
    from unet_seg.data.sample import Sample as Sample
    from unet_seg.data.toy import ToyShapes as ToyShapes

_MODULES = {"ToyShapes": "toy", "FolderDataset": "folder", "Sample": "sample", "IGNORE": "sample"}

__all__ = ["IGNORE", "FolderDataset", "Sample", "ToyShapes"]


def __getattr__(name: str) -> object:
    """Load a public name from the module that defines it (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
