"""A bundle: one folder that is all you need to predict, serve, monitor and retrain.

    bundle.json             what this is: format, task, classes, metrics, every file's SHA-256
    weights.safetensors     the network's state
    recipe.yaml             the complete recipe
    preprocessor.json       what was fitted on the training split
    input_schema.json       JSON Schema of one raw input
    reference.json          distribution of the training split, for monitoring
    probes.json             real inputs with the answers this bundle gave when it was saved

There is no pickle in it. Whoever loads a bundle checks every file and replays the probes first,
so a flipped byte or another machine's arithmetic is noticed before the first prediction.
"""

from __future__ import annotations

import base64
import json
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from maquette import __version__
from maquette.device import Device, choose_device
from maquette.errors import BundleError, RequestError
from maquette.files import sha256, write_atomic, write_json, write_text
from maquette.recipe import Recipe, dump_recipe, read_recipe
from maquette.tasks import make_task
from maquette.tasks.base import Json, Predictions, Preprocessor, Task

FORMAT = 1
"""Raised whenever an older Maquette could not read the new layout."""

CHUNK = 256
"""Inputs per forward pass of `predict`; bounds memory, does not change results."""

ABSOLUTE_TOLERANCE = 1e-3
RELATIVE_TOLERANCE = 1e-3
"""How far a probe's outputs may move on another machine. float32 keeps seven digits, so sums in
another order have room below this; a network that computes something else has not."""


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A trained model with everything it needs; made by `load_bundle`."""

    path: Path
    name: str
    bundle_id: str
    created: str
    metrics: dict[str, float]
    recipe: Recipe
    preprocessor: Preprocessor
    model: nn.Module
    task_object: Task[Any]
    device: Device

    @property
    def task(self) -> str:
        """ "tabular", "vision" or "image_text"."""
        return self.recipe.model.type

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Class names in the order of the probabilities; None for regression."""
        return self.preprocessor.classes

    def predict(self, raw: Any) -> Predictions:
        """Predict for a sequence of raw inputs.

        Args:
            raw: for tables, rows as mappings by column name or as sequences in column order, or a
                DataFrame; for images, paths, bytes, PIL images or uint8 arrays (H, W, 3); for
                pairs, mappings with such an "image" and a "text".
        Raises:
            RequestError: an input does not fit; the text names which, and what was expected.
        """
        inputs = _as_sequence(raw)
        if len(inputs) <= CHUNK:
            return self.task_object.decode(self.outputs(inputs), self.preprocessor)
        try:
            chunks = range(0, len(inputs), CHUNK)
            parts = [self.outputs(inputs[start : start + CHUNK]) for start in chunks]
        except RequestError:
            # A chunk counts from its own start; read as a whole, the input gets its true number.
            self.preprocessor.encode(inputs)
            raise
        return self.task_object.decode(torch.cat(parts), self.preprocessor)

    def outputs(self, raw: Sequence[Any]) -> Tensor:
        """Return the network's raw outputs for raw inputs, B first, float32 on the CPU."""
        encoded = self.preprocessor.encode(raw)
        with torch.inference_mode():
            if self.device.name != "cpu":
                encoded = tuple(x.to(self.device.torch_device) for x in encoded)
            outputs: Tensor = self.model(*encoded)
            return outputs.float().cpu()

    def input_schema(self) -> Json:
        """JSON Schema of one raw input."""
        return self.preprocessor.input_schema()

    def example(self) -> Any:
        """One raw input that `predict` accepts in a list."""
        return self.task_object.example(self.preprocessor)


def save_bundle(
    path: Path,
    *,
    recipe: Recipe,
    preprocessor: Preprocessor,
    model: nn.Module,
    metrics: dict[str, float],
    profile: Json,
    probes: Sequence[Any],
) -> None:
    """Write a bundle; the folder appears under its name only when it is complete.

    Args:
        path: the folder to make; an existing bundle there is replaced.
        probes: raw inputs (rows as mappings, or image bytes) whose answers are stored.
    """
    building = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        _write_parts(building, recipe, preprocessor, model, profile)
        task = make_task(recipe)
        fresh = _assemble(building, task, preprocessor, choose_device("cpu", "fp32"), {})
        write_json(building / "probes.json", _probe_answers(fresh, probes))
        manifest = {
            "format": FORMAT,
            "maquette": __version__,
            "bundle_id": secrets.token_hex(8),
            "name": recipe.name,
            "task": recipe.model.type,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "classes": preprocessor.classes,
            "metrics": metrics,
            "files": {file.name: sha256(file) for file in sorted(building.iterdir())},
        }
        write_json(building / "bundle.json", manifest)
        _take_place(building, path)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def load_bundle(path: str | Path, *, device: str = "auto") -> Bundle:
    """Load a bundle, verify its files, and replay its probes.

    Args:
        path: a bundle folder, or a run folder that holds one.
        device: auto, cpu, cuda or mps.
    Raises:
        BundleError: not a bundle, written by a newer Maquette, damaged, or its probes come out
            differently here.
    """
    folder = Path(path)
    if not (folder / "bundle.json").is_file() and (folder / "bundle" / "bundle.json").is_file():
        folder = folder / "bundle"
    manifest = _read_manifest(folder)
    _verify_files(folder, manifest["files"])
    recipe = read_recipe(folder / "recipe.yaml")
    task = make_task(recipe)
    state = json.loads((folder / "preprocessor.json").read_text(encoding="utf-8"))
    preprocessor = task.preprocessor_from_json(state)
    bundle = _assemble(folder, task, preprocessor, choose_device(device, "fp32"), manifest)
    _replay_probes(bundle)
    return bundle


def reference_profile(bundle: Bundle) -> Json:
    """Read the distribution of the training split."""
    profile: Json = json.loads((bundle.path / "reference.json").read_text(encoding="utf-8"))
    return profile


def _write_parts(
    folder: Path, recipe: Recipe, preprocessor: Preprocessor, model: nn.Module, profile: Json
) -> None:
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    write_atomic(folder / "weights.safetensors", lambda part: save_file(state, part))
    write_text(folder / "recipe.yaml", dump_recipe(recipe))
    write_json(folder / "preprocessor.json", preprocessor.to_json())
    write_json(folder / "input_schema.json", preprocessor.input_schema())
    write_json(folder / "reference.json", profile)


def _assemble(
    folder: Path,
    task: Task[Any],
    preprocessor: Preprocessor,
    device: Device,
    manifest: dict[str, Any],
) -> Bundle:
    model = task.build_model(preprocessor)
    try:
        model.load_state_dict(load_file(folder / "weights.safetensors"))
    except (SafetensorError, RuntimeError) as error:
        raise BundleError(
            f"{folder / 'weights.safetensors'} does not fit the network of its recipe: {error}. "
            "The bundle is damaged; make it again with `maquette train`."
        ) from error
    model.to(device.torch_device).eval().requires_grad_(requires_grad=False)
    return Bundle(
        path=folder,
        name=manifest.get("name", task.recipe.name),
        bundle_id=manifest.get("bundle_id", ""),
        created=manifest.get("created", ""),
        metrics=manifest.get("metrics", {}),
        recipe=task.recipe,
        preprocessor=preprocessor,
        model=model,
        task_object=task,
        device=device,
    )


def _take_place(new: Path, path: Path) -> None:
    """Give the folder `new` the name `path`, removing what had that name only afterwards."""
    old = path.with_name(f".{path.name}.{secrets.token_hex(4)}.old")
    if path.exists():
        path.rename(old)
    new.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def _read_manifest(folder: Path) -> dict[str, Any]:
    file = folder / "bundle.json"
    if not file.is_file():
        raise BundleError(
            f"{folder} is not a bundle: it has no bundle.json. "
            "Give the bundle folder that `maquette train` made (runs/<run>/bundle)."
        )
    try:
        manifest: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        version = int(manifest["format"])
        manifest["files"].items()
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BundleError(
            f"{file} is damaged: it is not the manifest Maquette wrote. "
            "Copy the bundle again from where it was made."
        ) from None
    if version > FORMAT:
        raise BundleError(
            f"{folder} has bundle format {version}, written by Maquette "
            f"{manifest.get('maquette', '?')}; this is Maquette {__version__}, which reads formats "
            f"up to {FORMAT}. Upgrade with `pip install --upgrade maquette`."
        )
    return manifest


def _verify_files(folder: Path, expected: dict[str, str]) -> None:
    for name, digest in expected.items():
        file = folder / name
        if not file.is_file():
            raise BundleError(f"{folder} is incomplete: {name} is missing. Copy the bundle again.")
        if sha256(file) != digest:
            raise BundleError(
                f"{file} is damaged: its SHA-256 is not the one in bundle.json. "
                "Copy the bundle again from where it was made, or train it again."
            )


def _probe_answers(bundle: Bundle, probes: Sequence[Any]) -> Json:
    """Store the probes and the raw outputs this bundle gives for them."""
    outputs = bundle.outputs(probes) if probes else torch.empty(0)
    inputs = [_stored(probe) for probe in probes]
    return {"inputs": inputs, "outputs": outputs.tolist()}


def _stored(probe: Any) -> Json:
    """Write a raw input as JSON: the bytes of a file in base64, a row or a pair cell by cell."""
    if isinstance(probe, bytes):
        return {"bytes": base64.b64encode(probe).decode()}
    if isinstance(probe, dict) and any(isinstance(cell, bytes) for cell in probe.values()):
        return {"pair": {name: _cell(cell) for name, cell in probe.items()}}
    return {"row": probe}


def _cell(cell: Any) -> Any:
    return _stored(cell) if isinstance(cell, bytes) else cell


def restored(stored: Json) -> Any:
    """Return the raw input that a probe in probes.json stands for."""
    if "bytes" in stored:
        return base64.b64decode(stored["bytes"])
    if "pair" in stored:
        return {
            name: restored(cell) if isinstance(cell, dict) else cell
            for name, cell in stored["pair"].items()
        }
    return stored["row"]


def _replay_probes(bundle: Bundle) -> None:
    stored = json.loads((bundle.path / "probes.json").read_text(encoding="utf-8"))
    if not stored["inputs"]:
        return
    probes = [restored(probe) for probe in stored["inputs"]]
    expected = torch.tensor(stored["outputs"])
    actual = bundle.outputs(probes)
    if actual.shape != expected.shape:
        raise BundleError(
            f"{bundle.path} answers its probes with shape {tuple(actual.shape)}, expected "
            f"{tuple(expected.shape)}: the bundle was edited. Train it again."
        )
    tolerance = ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * expected.abs()
    is_off = ~((actual - expected).abs() <= tolerance)  # so written, NaN counts as off
    if bool(is_off.any()):
        num_off = int(is_off.reshape(len(probes), -1).any(dim=1).sum())
        worst = float((actual - expected).abs().max())
        raise BundleError(
            f"{bundle.path} does not reproduce its own answers on this machine: {num_off} of "
            f"{len(probes)} probe inputs differ, by up to {worst:.3g}. The installed torch "
            f"{torch.__version__} computes otherwise, or the bundle was edited; do not use it."
        )


def _as_sequence(raw: Any) -> Sequence[Any]:
    """Accept a list, a tuple, an array of rows, or a DataFrame; refuse a single input, kindly."""
    if hasattr(raw, "to_dict") and hasattr(raw, "columns"):
        # A DataFrame says "missing" with NaN; NaN is the one value that differs from itself.
        return [
            {name: None if cell != cell else cell for name, cell in row.items()}
            for row in raw.to_dict("records")
        ]
    if isinstance(raw, (str, bytes, Path, dict)):
        raise RequestError(
            f"predict takes a list of inputs, got one {type(raw).__name__}; write predict([…])."
        )
    inputs: Sequence[Any] = raw if isinstance(raw, (list, tuple)) else list(raw)
    if not inputs:
        raise RequestError("predict got an empty list; give it at least one input.")
    return inputs
