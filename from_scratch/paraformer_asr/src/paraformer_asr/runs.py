"""Run folders: what a training leaves behind, and all that is needed to go on or to use the model.

runs/20260131-142501-tiny-3f9a1c/
  config.yaml        every setting, resolved; training it again repeats the run
  environment.json   versions, machine, threads, command
  tokens.txt         the vocabulary
  log.txt            what was said, with times
  metrics.csv        a row per logged step and per validation
  metrics.json       the final numbers
  curves.png         the rows as curves
  checkpoints/       last.pt and the one before it, previous.pt, to resume; best.pt to use
"""

from __future__ import annotations

import csv
import json
import platform
import sys
import uuid
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from tqdm import tqdm

from paraformer_asr.config import Config, config_from_dict, config_to_dict
from paraformer_asr.errors import AsrError
from paraformer_asr.files import write_atomic
from paraformer_asr.settings import load_yaml

COLUMNS = (
    *("step", "lr", "loss", "ce", "quantity", "ctc", "mwer", "grad_norm", "accuracy"),
    *("utterances_per_second", "valid_loss", "valid_cer", "valid_count_error"),
)
"""Of metrics.csv; a training row and a validation row fill different ones."""


class Run:
    """One run folder and what is written into it while training.

    Make a new one with `Run.create`, go on with an old one with `Run.open`.
    """

    def __init__(self, folder: Path, config: Config) -> None:
        self.folder = folder
        self.config = config

    @classmethod
    def create(cls, config: Config) -> Run:
        """Make a folder named by time, configuration and random digits, with its first files."""
        name = f"{datetime.now():%Y%m%d-%H%M%S}-{config.name}-{uuid.uuid4().hex[:6]}"
        folder = Path(config.out) / name
        try:
            (folder / "checkpoints").mkdir(parents=True)
        except OSError as error:
            raise AsrError(
                f"{folder} cannot be made: {error.strerror}. Set out= to a folder you can write to."
            ) from None
        text = yaml.safe_dump(config_to_dict(config), sort_keys=False, allow_unicode=True)
        write_atomic(folder / "config.yaml", text)
        run = cls(folder, config)
        run.write_rows([])
        return run

    @classmethod
    def open(cls, folder: Path) -> Run:
        """An existing run folder.

        Raises:
            AsrError: the folder has no config.yaml, or one that cannot be read.
        """
        path = folder / "config.yaml"
        if not path.is_file():
            raise AsrError(f"{folder} is no run folder: there is no config.yaml in it.")
        return cls(folder, config_from_dict(load_yaml(path), where=str(path)))

    def checkpoint(self, name: str) -> Path:
        return self.folder / "checkpoints" / f"{name}.pt"

    def say(self, message: str) -> None:
        """Append a line to log.txt and show it on stderr, above a progress bar."""
        with (self.folder / "log.txt").open("a", encoding="utf-8") as log:
            log.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} {message}\n")
        tqdm.write(message, file=sys.stderr)

    def row(self, values: Mapping[str, float]) -> None:
        """Append a row to metrics.csv; `values` has "step" and some of the other columns."""
        with (self.folder / "metrics.csv").open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, COLUMNS).writerow({k: _short(v) for k, v in values.items()})

    def rows(self) -> list[dict[str, str]]:
        """The rows of metrics.csv as text; a last line that was cut off is left out."""
        path = self.folder / "metrics.csv"
        if not path.is_file():
            return []
        with path.open(encoding="utf-8", newline="") as file:
            found = list(csv.DictReader(file))
        return [row for row in found if row["step"] and None not in row.values()]

    def rewind(self, step: int) -> None:
        """Drop the rows after `step`, which a resumed run will write anew."""
        self.write_rows([row for row in self.rows() if int(row["step"]) <= step])

    def write_rows(self, rows: list[dict[str, str]]) -> None:
        lines = [",".join(COLUMNS)] + [",".join(row[c] for c in COLUMNS) for row in rows]
        write_atomic(self.folder / "metrics.csv", "\r\n".join(lines) + "\r\n")

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)
        write_atomic(self.folder / name, text + "\n")


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.7g}"


def environment(**more: Any) -> dict[str, Any]:
    """What besides the configuration decides a result: versions, machine, threads, command."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "machine": f"{platform.system()} {platform.machine()}",
        "gpu": gpu,
        "threads": torch.get_num_threads(),
        **more,
    }
