"""Checkpoints: everything a killed run needs to go on as if nothing had happened, in one file.

    checkpoints/
        step-000000420.safetensors      the state after optimiser step 420; the newest two are kept
        step-000000400.safetensors
        best-epoch-0007.safetensors     the weights of the best epoch so far

A file holds tensors, and in its header JSON and the SHA-256 of both. There is no pickle. Files
appear whole or not at all; one that was damaged later is noticed, and the one before it is used.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from maquette.errors import RunError
from maquette.files import write_atomic
from maquette.tasks.base import Json

FORMAT = "maquette-checkpoint-1"
KEPT = 2
"""Newest checkpoints, and newest best weights, that stay on disk."""


class DamagedError(Exception):
    """A file is not the checkpoint that was written; the text says why."""


@dataclass(frozen=True)
class Snapshot:
    """JSON and tensors that belong together."""

    state: Json
    tensors: Mapping[str, Tensor]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors named `prefix/…`, without the prefix."""
        start = f"{prefix}/"
        return {
            name.removeprefix(start): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(start)
        }


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under `prefix/…`, as `Snapshot.part` takes them apart again."""
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write a snapshot, whole or not at all.

    Raises:
        RunError: the disk is full or the folder not writable; what was there before is intact.
    """
    tensors = {name: t.detach().cpu().contiguous() for name, t in snapshot.tensors.items()}
    state = json.dumps(snapshot.state)
    header = {"format": FORMAT, "state": state, "sha256": _digest(state, tensors)}

    def write(temporary: Path) -> None:
        try:
            save_file(tensors, temporary, metadata=header)
        except SafetensorError as error:  # how safetensors reports a full disk
            raise OSError(str(error)) from error

    write_atomic(path, write)


def read_snapshot(path: Path) -> Snapshot:
    """Read a snapshot and verify its checksum.

    Raises:
        DamagedError: not a checkpoint, cut short, or changed since it was written.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DamagedError(f"it cannot be read: {error}") from error
    if header.get("format") != FORMAT:
        raise DamagedError(f"its format is {header.get('format')!r}, expected {FORMAT!r}")
    if header.get("sha256") != _digest(header["state"], tensors):
        raise DamagedError("its content does not have the checksum it was written with")
    return Snapshot(json.loads(header["state"]), tensors)


def _digest(state: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over the JSON and every tensor's name, type, shape and bytes."""
    digest = hashlib.sha256(state.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


class CheckpointFolder:
    """The checkpoints of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def save(self, snapshot: Snapshot, best: Snapshot | None) -> None:
        """Write the state after `snapshot.state["step"]` steps, and the best weights it refers to.

        The best weights go first: a kill in between leaves a file too many, never one too few.

        Raises:
            RunError: it cannot be written; the checkpoints before it are intact.
        """
        best_name = None
        if best is not None:
            best_name = f"best-epoch-{best.state['epoch']:04d}.safetensors"
            if not (self.path / best_name).is_file():
                write_snapshot(self.path / best_name, best)
        path = self.path / f"step-{snapshot.state['step']:09d}.safetensors"
        write_snapshot(path, Snapshot(snapshot.state | {"best": best_name}, snapshot.tensors))
        for kind in ("step", "best"):
            for old in self._files(kind)[KEPT:]:
                old.unlink()

    def load(self) -> tuple[Snapshot, Snapshot | None, list[str]] | None:
        """Return the newest whole checkpoint, its best weights, and a line per damaged file.

        Returns:
            None when there is no checkpoint: the run was killed before its first.
        Raises:
            RunError: there are checkpoints, and none can be used.
        """
        complaints: list[str] = []
        for path in self._files("step"):
            try:
                snapshot = read_snapshot(path)
                name = snapshot.state["best"]
                best = None if name is None else read_snapshot(self.path / name)
                return snapshot, best, complaints
            except DamagedError as error:
                complaints.append(f"The checkpoint {path} was passed over: {error}.")
        if complaints:
            raise RunError(
                "\n".join(complaints)
                + f"\nNo checkpoint is left. Delete the folder {self.path} and resume again: "
                "the run then starts from its beginning and gives the same result."
            )
        return None

    def forget_after(self, step: int, best: str | None) -> None:
        """Delete what a resumed run does not continue from: later files, other best weights."""
        self._delete_unfinished()
        for path in self._files("step"):
            if _number(path) > step:
                path.unlink()
        for path in self._files("best"):
            if path.name > (best or ""):
                path.unlink()

    def clear(self) -> None:
        """Delete every checkpoint: a run that starts anew must never resume from an older one."""
        self._delete_unfinished()
        for path in [*self._files("step"), *self._files("best")]:
            path.unlink()

    def _files(self, kind: str) -> list[Path]:
        """The files of a kind, newest first."""
        return sorted(self.path.glob(f"{kind}-*.safetensors"), key=_number, reverse=True)

    def _delete_unfinished(self) -> None:
        """Delete what a kill in the middle of a write left under a temporary name."""
        for path in self.path.glob(".*.safetensors.*.part"):
            path.unlink()


def _number(path: Path) -> int:
    found = re.search(r"\d+", path.name)
    return int(found.group()) if found else -1
