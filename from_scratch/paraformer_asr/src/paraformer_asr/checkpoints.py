"""Checkpoints: written whole, read as data only, and refused with a reason when they do not fit.

A checkpoint to use holds the weights (CMVN among them), the vocabulary and the configuration.
One to resume from also holds the optimiser, the average, the place in the data and the random
states.
"""

from __future__ import annotations

import io
import pickle
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paraformer_asr.config import Config, config_from_dict
from paraformer_asr.devices import pick_device
from paraformer_asr.errors import AsrError
from paraformer_asr.files import write_atomic
from paraformer_asr.models import Paraformer, build_model
from paraformer_asr.tokenizer import Tokenizer

VERSION = 1
"""Of the layout; a file of another version is refused instead of misread."""
NEEDED = ("version", "model", "config", "characters", "step")


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint; a last.pt that is there already is kept as previous.pt.

    Raises:
        OSError: no space or no permission; what was there before stays.
    """
    content = io.BytesIO()
    torch.save({"version": VERSION, **state}, content)
    if path.name == "last.pt" and path.is_file():
        path.replace(path.with_name("previous.pt"))
    write_atomic(path, content.getvalue())


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; only tensors and plain values, never code.

    Raises:
        AsrError: no file, a damaged one, or one of another program or version.
    """
    if not path.is_file():
        raise AsrError(f"{path}: there is no such checkpoint.")
    try:
        with warnings.catch_warnings():  # about the pickling of files that are none of ours
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, OSError, KeyError) as error:
        first_line = str(error).partition("\n")[0][:100]
        raise AsrError(f"{path}: damaged, or no checkpoint ({first_line}).") from None
    if not isinstance(state, dict) or "version" not in state:
        raise AsrError(
            f"{path}: was not written by paraformer_asr. A FunASR checkpoint is made one by: "
            "python -m paraformer_asr convert"
        )
    if state["version"] != VERSION:
        raise AsrError(f"{path}: has version {state['version']}; this program reads {VERSION}.")
    missing = [key for key in NEEDED if key not in state]
    if missing:
        raise AsrError(f"{path}: lacks {', '.join(missing)}; it cannot be used.")
    return state


def load_newest(folder: Path) -> dict[str, Any]:
    """The newest whole checkpoint of a run: last.pt or, where that is damaged, previous.pt."""
    last, previous = (folder / "checkpoints" / f"{name}.pt" for name in ("last", "previous"))
    if not last.is_file() and not previous.is_file():
        raise AsrError(f"{folder} has no checkpoint to resume from; start the run again.")
    try:
        return load(last)
    except AsrError:
        if previous.is_file():
            return load(previous)
        raise


def fill(
    model: Paraformer, weights: Mapping[str, Tensor], characters: Sequence[str], *, source: str
) -> None:
    """Put weights into a model, refusing another vocabulary or another architecture by name.

    Raises:
        AsrError: what differs first, and what to do.
    """
    own_characters = list(model.tokenizer.characters)
    if own_characters != list(characters):
        differing = sorted(set(own_characters) ^ set(characters))
        what = f"such as {differing[0]!r}" if differing else "in another order"
        raise AsrError(
            f"{source}: was trained with another vocabulary: {len(characters)} characters where "
            f"this model has {len(own_characters)}, {what}. Set data.characters to the text "
            "between </s> and <unk> of its tokens.txt."
        )
    own = model.state_dict()
    faults = [f"{name} is missing" for name in own if name not in weights]
    faults += [f"{name} is not in this model" for name in weights if name not in own]
    faults += [
        f"{name} is {list(weights[name].shape)} instead of {list(value.shape)}"
        for name, value in own.items()
        if name in weights and weights[name].shape != value.shape
    ]
    if faults:
        rest = f", and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise AsrError(
            f"{source}: holds another architecture: {'; '.join(faults[:3])}{rest}. Use the model "
            "and features settings of its config.yaml."
        )
    model.load_state_dict(dict(weights))


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A trained model and where it comes from."""

    model: Paraformer
    """In eval mode, with its tokenizer and its feature extraction."""
    config: Config
    step: int
    device: torch.device
    path: Path


def load_model(path: str | Path, device: str = "auto") -> Loaded:
    """Load a trained model from a run folder (best.pt, else last.pt) or from a .pt file.

    Raises:
        AsrError: no model there, a damaged file, no such device.
    """
    path = Path(path)
    if path.is_dir():
        candidates = [path / "checkpoints" / f"{name}.pt" for name in ("best", "last", "previous")]
        present = [candidate for candidate in candidates if candidate.is_file()]
        if not present:
            raise AsrError(f"{path} is no run folder: there is no checkpoints/best.pt in it.")
        path = present[0]
    where = pick_device(device)
    state = load(path)
    config = config_from_dict(state["config"], where=str(path))
    model = build_model(config, tokenizer=Tokenizer(state["characters"]))
    averaging = state.get("averaging")  # of a last.pt; best.pt holds the average as its model
    weights = averaging["weights"] if averaging else state["model"]
    fill(model, weights, state["characters"], source=str(path))
    model.to(where).eval()
    return Loaded(model=model, config=config, step=state["step"], device=where, path=path)
