"""The record that a project's run leaves: plain JSON, the same for every project.

`python run.py --epochs 2 --output FOLDER` writes FOLDER/run.json. Nothing of Maquette is needed to
write it; the scaffold's utils/record.py does it in a few lines:

    {
      "format": 1,
      "command": "python run.py --epochs 2 --output runs/quick",
      "epochs": 2,
      "seconds": 41.2,
      "datasets": {"adult": {"sha256": "3b8a…", "samples": 32561}},
      "trainings": [
        {
          "dataset": "adult", "model": "tabm", "seed": 0,
          "losses": [0.412, 0.377],
          "grad_norms": [1.91, 1.42],
          "metrics": {"accuracy": 0.851},
          "baseline": {"accuracy": 0.759},
          "seconds": 12.5
        }
      ]
    }

`losses` is the mean training loss of each epoch, `grad_norms` the largest gradient norm of each;
both are empty for a model that is not trained by epochs, such as boosted trees. `baseline` is what
the trivial answer scores (the most frequent class, the mean) on the same samples.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from maquette.errors import DataError

Number = float | None
"""JSON has neither NaN nor infinity; a project writes null for them."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class DatasetFact(_Part):
    """One data set that a run read."""

    sha256: str
    samples: Annotated[int, Field(ge=1)]


class Training(_Part):
    """One model trained once on one data set."""

    dataset: str
    model: str
    seed: int
    losses: tuple[Number, ...]
    grad_norms: tuple[Number, ...] = ()
    metrics: dict[str, Number]
    baseline: dict[str, Number] = {}
    seconds: Annotated[float, Field(ge=0)] | None = None


class RunRecord(_Part):
    """One run of a project."""

    format: Literal[1]
    command: str
    epochs: Annotated[int, Field(ge=1)]
    seconds: Annotated[float, Field(ge=0)]
    datasets: dict[str, DatasetFact]
    trainings: Annotated[tuple[Training, ...], Field(min_length=1)]


def read_record(path: Path) -> RunRecord:
    """Read and validate a run's record.

    Raises:
        DataError: it is missing, not JSON, or not of this form; the text names the key.
    """
    try:
        return RunRecord.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"Could not read the record {path}: {error.strerror or error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise DataError(
            f"{path} is not the record of a run: {where}: {first['msg']}. "
            "The scaffold's utils/record.py writes one; `maquette research new` makes it."
        ) from error
