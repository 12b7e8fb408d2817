"""The record of a run: run.json, from which the report is written."""

import json
from pathlib import Path
from typing import Any


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write FOLDER/run.json, whole or not at all; six decimals, and null for NaN and infinity."""
    text = json.dumps(record)
    plain = json.loads(text, parse_float=lambda x: round(float(x), 6), parse_constant={}.get)
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / "run.json.part"
    part.write_text(json.dumps(plain, separators=(",", ":")) + "\n")
    part.replace(folder / "run.json")
