"""Reading the files of a FunASR model: the checkpoint and the vocabulary beside it.

In: paths. Out: tensors by name, and a `Tokenizer`. Whatever is missing or damaged is an AsrError
that names the file and says what belongs there.

Letters: V vocabulary.
"""

from __future__ import annotations

import json
import pickle
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paraformer_asr.errors import AsrError
from paraformer_asr.tokenizer import FIRST, LAST, Tokenizer

WRAPPERS = ("state_dict", "model", "model_state_dict")
"""Keys under which training programs put the tensors."""


def checkpoint_file(path: Path) -> Path:
    """The file itself, or the one in a folder as FunASR's downloads have it."""
    if path.is_dir():
        present = [path / name for name in ("model.pt", "model.pb") if (path / name).is_file()]
        if not present:
            raise AsrError(f"{path}: there is no model.pt in this folder; give the .pt file.")
        return present[0]
    if not path.is_file():
        raise AsrError(f"{path}: there is no such file; give FunASR's model.pt.")
    return path


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors by name, out of whatever they are wrapped in.

    The file is read as data only: a checkpoint cannot run code here.
    """
    try:
        with warnings.catch_warnings():  # about how other programs pickle
            warnings.simplefilter("ignore")
            loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = re.search(r"GLOBAL ([\w.]+)", str(error))
        if reason is None:
            raise AsrError(f"{path}: damaged, or not a PyTorch checkpoint.") from None
        raise AsrError(
            f"{path}: holds more than tensors ({reason.group(1)}), which could run code and is not "
            "read. If you trust it, save its tensors alone: "
            "torch.save(torch.load(PATH, weights_only=False)['state_dict'], 'model.pt')."
        ) from None
    except (RuntimeError, ValueError, EOFError, KeyError, OSError):
        raise AsrError(
            f"{path}: damaged, or not a PyTorch checkpoint; get the file again."
        ) from None
    for _ in WRAPPERS:
        inner = [loaded[key] for key in WRAPPERS if isinstance(loaded, dict) and key in loaded]
        if inner and isinstance(inner[0], dict):
            loaded = inner[0]
    tensors = loaded.items() if isinstance(loaded, dict) else ()
    weights = {
        str(name).removeprefix("module."): value
        for name, value in tensors
        if isinstance(value, Tensor)
    }
    if not weights:
        raise AsrError(f"{path}: holds no tensors by name; expected a FunASR checkpoint.")
    return weights


def without_vocabulary(path: Path, V: int) -> str:
    """What to say, and what to do, when no file has the vocabulary."""
    return (
        f"{path}: the vocabulary is missing. Put the model's tokens.json or tokens.txt "
        f"({V} tokens, the first {FIRST[0]}) into {path.parent}, or give characters=."
    )


def vocabulary(path: Path, V: int, characters: Sequence[str] | None) -> Tokenizer | None:
    """The tokenizer of `characters`, or of the file beside the checkpoint; None without both."""
    if characters is not None:
        if len(characters) != V - len(FIRST) - 1:
            raise AsrError(
                f"characters lists {len(characters)} tokens; the model has {V}, of which "
                f"{V - len(FIRST) - 1} lie between {FIRST[-1]} and {LAST}."
            )
        return Tokenizer(characters)
    candidates = [path.with_name(name) for name in ("tokens.json", "tokens.txt")]
    file = next((candidate for candidate in candidates if candidate.is_file()), None)
    if file is None:
        return None
    tokens = read_tokens(file)
    if len(tokens) != V:
        raise AsrError(f"{file}: lists {len(tokens)} tokens; the model {path.name} has {V}.")
    if tuple(tokens[:3]) != FIRST or tokens[-1] != LAST:
        raise AsrError(
            f"{file}: begins with {', '.join(tokens[:3])} and ends with {tokens[-1]}; expected "
            f"{', '.join(FIRST)} and {LAST}."
        )
    try:
        return Tokenizer(tokens[3:-1])
    except AsrError as error:
        raise AsrError(f"{file}: {error}") from None


def read_tokens(file: Path) -> list[str]:
    """All tokens by id: a JSON list, or one token per line."""
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise AsrError(f"{file}: byte {error.start} is not UTF-8; get the file again.") from None
    if file.suffix != ".json":
        return text.removesuffix("\n").split("\n")
    try:
        tokens = json.loads(text)
    except json.JSONDecodeError as error:
        raise AsrError(f"{file}:{error.lineno}: not JSON ({error.msg}).") from None
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise AsrError(f"{file}: expected a list of texts, such as FunASR's token list.")
    return tokens
