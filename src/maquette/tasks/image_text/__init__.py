"""Image-text pairs: CLIP models, fine-tuned on captions or on class names.

`load_clip` reads a CLIP checkpoint from anywhere; it is imported when asked for, so that reading
this package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maquette.tasks.image_text.checkpoints import load_clip

__all__ = ["load_clip"]


def __getattr__(name: str) -> Any:
    """Import `load_clip`, and with it torch, when it is asked for."""
    if name != "load_clip":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from maquette.tasks.image_text.checkpoints import load_clip

    return load_clip
