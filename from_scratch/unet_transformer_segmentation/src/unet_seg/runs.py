"""Run folders: everything one training leaves behind.

runs/20260131-142501-tiny-3f9a1c/
  config.yaml        the resolved configuration; enough to repeat the run
  environment.json   versions, machine, threads, command
  log.txt            what the run said
  metrics.csv        a row for each logged step and each validation
  metrics.json       the final numbers
  curves.png         loss, learning rate and IoU over the steps
  checkpoints/       last.pt, previous.pt, best.pt
"""

from __future__ import annotations

import csv
import json
import os
import platform
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from unet_seg.config import Config, config_from_dict, config_to_dict
from unet_seg.errors import SegError
from unet_seg.parsing import read_yaml


def write_atomic(path: Path, data: str | bytes) -> None:
    """Write a file so that it is either the old one or the whole new one, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def create_run(config: Config) -> Path:
    """Make a new run folder, named by time, configuration and six random hexadecimal digits."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    run = Path(config.out) / f"{stamp}-{config.name}-{secrets.token_hex(3)}"
    try:
        (run / "checkpoints").mkdir(parents=True)
    except OSError as error:
        raise SegError(f"{run}: cannot be made ({error.strerror}); choose another out=.") from None
    write_atomic(run / "config.yaml", yaml.safe_dump(config_to_dict(config), sort_keys=False))
    write_atomic(run / "environment.json", json.dumps(environment(), indent=2) + "\n")
    return run


def read_config(run: Path) -> Config:
    """The configuration a run folder was made with."""
    path = run / "config.yaml"
    if not path.is_file():
        raise SegError(f"{run} is no run folder: it has no config.yaml.")
    return config_from_dict(read_yaml(path), where=str(path))


def environment() -> dict[str, Any]:
    """What besides the configuration can change a result: versions, machine, threads, command."""
    import numpy
    import torch

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "platform": platform.platform(),
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


class RunLog:
    """Writes a run's log.txt and metrics.csv; resuming drops what lies after the checkpoint."""

    def __init__(self, run: Path, columns: Sequence[str], *, resume_step: int = 0) -> None:
        self.run = run
        self.columns = ("step", *columns)
        self._csv = run / "metrics.csv"
        kept = [row for row in self._read() if int(row["step"]) <= resume_step]
        lines = [",".join(self.columns)] + [self._line(row) for row in kept]
        write_atomic(self._csv, "\n".join(lines) + "\n")

    def say(self, message: str) -> None:
        """Append a line with the time to log.txt and print it on stderr, above a progress bar."""
        from tqdm import tqdm

        with (self.run / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}\n")
        tqdm.write(message, file=sys.stderr)

    def row(self, step: int, values: Mapping[str, float]) -> None:
        """Append a row to metrics.csv; columns without a value stay empty."""
        unknown = set(values) - set(self.columns)
        assert not unknown, f"metrics.csv has no column {unknown}"
        with self._csv.open("a", encoding="utf-8") as file:
            file.write(self._line({"step": step, **values}) + "\n")

    def _line(self, row: Mapping[str, Any]) -> str:
        cells = (row.get(column, "") for column in self.columns)
        return ",".join(f"{c:.8g}" if isinstance(c, float) else str(c) for c in cells)

    def _read(self) -> list[dict[str, str]]:
        return read_rows(self.run) if self._csv.is_file() else []


def read_rows(run: Path) -> list[dict[str, str]]:
    """The rows of a run's metrics.csv, as text; a last line that was cut off is left out."""
    with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if None not in row.values() and row["step"]]
