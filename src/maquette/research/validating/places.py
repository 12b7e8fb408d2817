"""Names in place of this machine's folders, so that a record can be shown to anyone."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from maquette.files import cache_folder
from maquette.research.workspace import Workspace


class Places:
    """Writes `.` for a workspace, `~` for the home folder, and so on."""

    def __init__(self, workspace: Workspace) -> None:
        places = {
            str(workspace.path.absolute()): ".",
            str(workspace.path.resolve()): ".",
            str(cache_folder("environments").absolute()): "ENVIRONMENTS",
            str(Path(__file__).parent.parent): "MAQUETTE",
            sys.prefix: "PYTHON",
            sys.base_prefix: "PYTHON",
            str(Path.home()): "~",
        }
        for name in ("RESEARCH_DATA", "RESEARCH_MIRROR", "MAQUETTE_DATA_MIRROR"):
            if os.environ.get(name):
                places[str(Path(os.environ[name]).absolute())] = name
                places[str(Path(os.environ[name]).resolve())] = name
        longest = sorted(places, key=len, reverse=True)
        self.places = {place: places[place] for place in longest if len(place) > 1}

    def __call__(self, text: str) -> str:
        """Return `text` with every folder replaced that stands as a whole name."""
        for place, name in self.places.items():
            text = re.sub(rf"{re.escape(place)}(?![\w.-])", name, text)
        return text
