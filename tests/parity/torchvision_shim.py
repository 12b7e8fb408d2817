"""Import torchvision where its compiled operators do not fit the installed torch.

torchvision's Python parts (networks, transforms) need only that two operators are declared; boxes
and image decoding stay unusable. Call `import_torchvision` before timm or open_clip is imported.
"""

from __future__ import annotations

import sys
from types import ModuleType

import torch

_kept: list[torch.library.Library] = []
"""A library's declarations end with the object, so it lives as long as the process."""


def import_torchvision() -> ModuleType:
    """Return torchvision, declaring `nms` and `qnms` first if its own import fails on them."""
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)
        import torchvision
    return torchvision
