"""The from-scratch packages are compared here too; they are imported from where they lie."""

from __future__ import annotations

import sys
from pathlib import Path

for _src in sorted((Path(__file__).parents[2] / "from_scratch").glob("*/src")):
    sys.path.insert(0, str(_src))
