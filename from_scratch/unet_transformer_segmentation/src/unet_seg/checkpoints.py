"""Checkpoints: written whole or not at all, read without running code from them.

`last.pt` holds everything an exact resume needs; `previous.pt` is the one before, for the case that
the newest is damaged; `best.pt` holds the weights that validated best and nothing of the optimiser.
"""

from __future__ import annotations

import io
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unet_seg.config import Config, config_from_dict
from unet_seg.devices import pick_device
from unet_seg.errors import SegError
from unet_seg.models import build_model
from unet_seg.runs import write_atomic

FORMAT = 1
"""Raised when the layout of the files changes, so that an old one is refused by name."""


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically; a last.pt that is already there becomes previous.pt."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    if path.name == "last.pt" and path.exists():
        path.replace(path.with_name("previous.pt"))
    write_atomic(path, buffer.getvalue())


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint of this package. Only tensors and plain values are read, never code."""
    if not path.is_file():
        raise SegError(f"{path}: no such checkpoint.")
    try:
        with warnings.catch_warnings():  # of how a file is pickled that is none of ours
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SegError(f"{path}: is damaged or no checkpoint ({reason[:120]}).") from None
    if not isinstance(state, dict) or "format" not in state or "model" not in state:
        raise SegError(f"{path}: was not written by unet_seg; it lacks 'format' and 'model'.")
    if state["format"] != FORMAT:
        raise SegError(f"{path}: has format {state['format']}, this version reads {FORMAT}.")
    return state


def load_last(run: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """The newest whole checkpoint of a run: last.pt or, if that is damaged, previous.pt."""
    last, previous = run / "checkpoints" / "last.pt", run / "checkpoints" / "previous.pt"
    try:
        return load(last, device)
    except SegError:
        if previous.is_file():
            return load(previous, device)
        if not last.is_file():
            raise SegError(
                f"{run} has no checkpoints/last.pt to resume from; start the run again."
            ) from None
        raise


def fill(model: nn.Module, weights: Mapping[str, torch.Tensor], *, source: str) -> None:
    """Load weights into a model; any missing, unexpected or misshapen tensor is refused by name."""
    own = model.state_dict()
    problems = [f"missing {name}" for name in own if name not in weights]
    problems += [f"unexpected {name}" for name in weights if name not in own]
    problems += [
        f"{name} is {tuple(weights[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise SegError(
            f"{source}: holds the weights of another architecture: "
            f"{'; '.join(problems[:5])}{more}. Use the configuration it was trained with "
            "(config.yaml of its run folder)."
        )
    model.load_state_dict(weights)


@dataclass(frozen=True)
class LoadedModel:
    """A trained network and what is needed to use it."""

    model: nn.Module
    """In eval mode, with averaged weights where the run kept an average."""
    config: Config
    classes: tuple[str, ...]
    step: int
    device: torch.device
    path: Path


def load_model(path: str | Path, device: str = "auto") -> LoadedModel:
    """Load a trained model from a run folder (best.pt, else last.pt) or from a .pt file."""
    path = Path(path)
    if path.is_dir():
        folder = path / "checkpoints"
        if not folder.is_dir():
            raise SegError(f"{path} is no run folder: it has no checkpoints/.")
        best = folder / "best.pt"
        path = best if best.is_file() else folder / "last.pt"
    where = pick_device(device)
    state = load(path)
    config = config_from_dict(state["config"], where=str(path))
    model = build_model(config)
    fill(model, state.get("ema") or state["model"], source=str(path))
    model.to(where).eval()
    if config.train.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return LoadedModel(model, config, config.data.classes, int(state["step"]), where, path)
