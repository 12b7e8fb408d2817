"""What the references say: from the stored file, or computed just now."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
PYTHON = HERE.parents[1] / ".venv-peers" / "bin" / "python"


def read_facts(source: str, name: str, folder: Path, *, seed: int) -> Any:
    """Read golden/NAME.json, or run make_NAME_golden.py in .venv-peers with another seed.

    Args:
        source: "golden" or "live"; live is skipped where there is no .venv-peers.
        name: such as seg_losses or asr_cif.
        folder: where the live numbers are written.
        seed: of the live numbers.
    """
    if source == "golden":
        return json.loads((HERE / "golden" / f"{name}.json").read_text())
    if not PYTHON.is_file():
        pytest.skip("there is no .venv-peers; tests/parity/README.md says how to make it")
    done = subprocess.run(
        [PYTHON, HERE / f"make_{name}_golden.py", "--output", folder, "--seed", str(seed)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads((folder / f"{name}.json").read_text())
