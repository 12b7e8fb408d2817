"""The record of a run: one JSON file, whole or not there."""

import json
import math
from pathlib import Path
from typing import Any


def write_record(folder: Path, record: dict[str, Any]) -> Path:
    """Write folder/run.json and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path, part = folder / "run.json", folder / ".run.json.part"
    text = json.dumps(compact({"format": 1, **record}), separators=(",", ":"), allow_nan=False)
    part.write_text(text + "\n", encoding="utf-8")
    return part.replace(path)


def compact(value: Any) -> Any:
    """Return `value` with floats of six digits, and null for NaN and infinity, as JSON wants it."""
    if isinstance(value, dict):
        return {key: compact(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [compact(inner) for inner in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
