"""Where a checkpoint's files are: weights, configuration, tokenizer, preprocessing.

`locate` is the way in. A source is a file, a folder, or `hub:OWNER/NAME`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from maquette.errors import DataError, UsageError
from maquette.tasks.image_text.preprocess import OPENAI_MEAN, OPENAI_STD
from maquette.tasks.tensor_files import read_tensors

HUB = "hub:"
WHAT = "a file or a folder of an OpenAI, open_clip or Hugging Face CLIP, or hub:OWNER/NAME"
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
)
"""Names of weights in a folder, the preferred ones first; any one other weight file will do too."""
SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer.json")


@dataclass(frozen=True, kw_only=True)
class CheckpointFiles:
    """The files of one checkpoint."""

    weights: tuple[Path, ...]
    """One file, or the shards of a large model."""
    folder: Path
    """Where configuration, tokenizer and preprocessing may lie."""


def locate(source: str | Path) -> CheckpointFiles:
    """Find the weights of a source.

    Raises:
        UsageError: there is nothing there, or nothing that could be a checkpoint.
        DataError: an index of shards is damaged, or names files that are not there.
    """
    if isinstance(source, str) and source.startswith(HUB):
        path = _download(source.removeprefix(HUB))
    else:
        path = Path(source)
    if path.is_dir():
        path = _weights_in(path)
    if not path.is_file():
        raise UsageError(f"model.architecture.weights: {path} does not exist; give {WHAT}.")
    if path.name.endswith(".index.json"):
        return CheckpointFiles(weights=_shards(path), folder=path.parent)
    return CheckpointFiles(weights=(path,), folder=path.parent)


def read_state(files: CheckpointFiles) -> dict[str, Tensor]:
    """Read the tensors of all weight files, as they are stored."""
    state: dict[str, Tensor] = {}
    for path in files.weights:
        state |= read_tensors(path)
    return state


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None if there is no such file.

    Raises:
        DataError: it is not JSON, or not an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"Could not read {path}: {error.strerror or error}.") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text, expected JSON.") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not JSON: {error.msg}.") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a JSON {type(content).__name__}, expected an object.")
    return content


def tokenizer_folder(folder: Path) -> Path | None:
    """Return `folder` if a tokenizer lies in it: vocab.json with merges.txt, or tokenizer.json."""
    vocab, merges, whole = ((folder / name).is_file() for name in TOKENIZER_FILES)
    return folder if (vocab and merges) or whole else None


def preprocessing_in(folder: Path) -> dict[str, Any]:
    """Return how images become inputs: mean, std (three floats each) and fit (crop or stretch).

    From preprocessor_config.json or open_clip_config.json; CLIP's own where they say nothing.
    """
    theirs = read_json(folder / "preprocessor_config.json")
    if theirs is not None:
        mean, std = theirs.get("image_mean"), theirs.get("image_std")
        is_cut = theirs.get("do_center_crop", True)
    else:
        config = read_json(folder / "open_clip_config.json") or {}
        section = config.get("preprocess_cfg")
        section = section if isinstance(section, Mapping) else {}
        mean, std = section.get("mean"), section.get("std")
        is_cut = section.get("resize_mode", "shortest") != "squash"
    return {
        "mean": _colour(mean, OPENAI_MEAN, folder),
        "std": _colour(std, OPENAI_STD, folder),
        "fit": "crop" if is_cut else "stretch",
    }


def _colour(given: Any, default: tuple[float, ...], folder: Path) -> tuple[float, ...]:
    if given is None:
        return default
    if not isinstance(given, list) or len(given) != 3:
        raise DataError(
            f"{folder}: the image mean and std of a checkpoint are three numbers, found {given!r}."
        )
    return tuple(float(value) for value in given)


def _weights_in(folder: Path) -> Path:
    if (folder / "bundle.json").is_file():
        raise UsageError(
            f"{folder} is a Maquette bundle; write it as a checkpoint first and give that: "
            f"maquette export {folder} FOLDER."
        )
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return folder / name
    others = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    if len(others) != 1:
        listed = f"{len(others)} ({', '.join(path.name for path in others)})" if others else "none"
        raise UsageError(
            f"{folder}: which file holds the weights? Expected one of {', '.join(WEIGHT_FILES)}, "
            f"or one file that ends in {', '.join(SUFFIXES)}; found {listed}. Give the file itself."
        )
    return others[0]


def _shards(index: Path) -> tuple[Path, ...]:
    content = read_json(index) or {}
    table = content.get("weight_map")
    if not isinstance(table, Mapping) or not table:
        raise DataError(f"{index} has no weight_map, the table of tensors and files.")
    shards = [index.parent / Path(str(name)).name for name in dict.fromkeys(table.values())]
    absent = [path.name for path in shards if not path.is_file()]
    if absent:
        raise DataError(
            f"{index} names {', '.join(absent)}, which {'is' if len(absent) == 1 else 'are'} not "
            "beside it; download all parts."
        )
    return tuple(shards)


def _download(name: str) -> Path:
    """Fetch a model of the Hugging Face Hub and return its folder in the hub's own cache."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w.-]+)?", name):
        raise UsageError(
            f"model.architecture.weights: hub:{name} is no name on the Hugging Face Hub; expected "
            "hub:OWNER/NAME or hub:OWNER/NAME@REVISION, as hub:openai/clip-vit-base-patch32."
        )
    try:
        from huggingface_hub import HfApi, snapshot_download
    except ImportError:
        raise UsageError(
            f"hub:{name} needs the package huggingface_hub: pip install 'maquette[hub]'. Or "
            "download the model's files yourself and give their folder."
        ) from None
    repository, _, revision = name.partition("@")
    try:
        files = HfApi().list_repo_files(repository, revision=revision or None)
        wanted = _files_to_fetch(files, name)
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=wanted))
    except UsageError:
        raise
    except Exception as error:  # the hub's client raises a dozen kinds, of three packages
        cached = _cached(repository, revision)
        if cached is not None:
            return cached
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UsageError(
            f"Could not fetch hub:{name}: {reason.rstrip('.')}. Is the name right, and is there a "
            "network? Without one, download the files elsewhere and give their folder."
        ) from None


def _files_to_fetch(files: list[str], name: str) -> list[str]:
    """Choose one form of the weights, and every small file beside them."""
    for weights in WEIGHT_FILES:
        if weights in files:
            stem = weights.removesuffix(".index.json")
            parts = [stem.replace(".", "-*.")] if stem != weights else []
            return [weights, *parts, "*.json", "merges.txt"]
    raise UsageError(
        f"hub:{name} has none of {', '.join(WEIGHT_FILES)}, so there are no weights to load."
    )


def _cached(repository: str, revision: str) -> Path | None:
    """Return what an earlier call fetched, when the hub cannot be asked."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, revision=revision or None, local_files_only=True))
    except Exception:
        return None
