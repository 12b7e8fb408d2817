"""Run folders: what a run leaves behind, and where each thing is.

    runs/<UTC time>-<name>-<id>/
        recipe.yaml      complete and resolved: it repeats the run
        splits.json      which sample went where
        log.jsonl        one JSON object per event
        metrics.csv      one row per epoch
        summary.json     the outcome, once the run has ended
        checkpoints/     where a killed run resumes
        bundle/          all you need to predict, serve, monitor and retrain
        report.html      the same for people
        figures/         its pictures as files (image-text runs)

The folder is the source of truth; a tracking server only mirrors it.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from maquette.errors import RunError, UsageError
from maquette.files import write_json, write_text
from maquette.recipe import Recipe, dump_recipe, read_recipe


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run."""

    path: Path

    @classmethod
    def create(cls, recipe: Recipe) -> RunFolder:
        """Make a new folder under `recipe.runs_dir` and save the resolved recipe in it."""
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        path = Path(recipe.runs_dir) / f"{now}-{recipe.name}-{secrets.token_hex(3)}"
        try:
            path.mkdir(parents=True)
        except OSError as error:
            raise RunError(
                f"Could not make the run folder {path}: {error.strerror}. "
                "Choose another place with runs_dir=FOLDER."
            ) from error
        folder = cls(path)
        write_text(folder.recipe_file, dump_recipe(recipe))
        return folder

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """Open an existing run folder.

        Raises:
            UsageError: there is no run at `path`.
        """
        folder = cls(Path(path))
        if not folder.recipe_file.is_file():
            raise UsageError(
                f"{path} is not a run folder: it has no recipe.yaml. "
                "`maquette train RECIPE` prints the folder of its run as its last line."
            )
        return folder

    @property
    def recipe_file(self) -> Path:
        return self.path / "recipe.yaml"

    @property
    def splits_file(self) -> Path:
        return self.path / "splits.json"

    @property
    def log_file(self) -> Path:
        return self.path / "log.jsonl"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def summary_file(self) -> Path:
        return self.path / "summary.json"

    @property
    def bundle(self) -> Path:
        return self.path / "bundle"

    @property
    def report_file(self) -> Path:
        return self.path / "report.html"

    @property
    def figures(self) -> Path:
        return self.path / "figures"

    def checkpoints(self, recipe: Recipe) -> Path:
        """The checkpoint folder: `training.checkpoint.path` (one subfolder per run), or our own."""
        chosen = recipe.training.checkpoint.path
        return Path(chosen) / self.path.name if chosen else self.path / "checkpoints"

    def recipe(self) -> Recipe:
        """Read the resolved recipe back."""
        return read_recipe(self.recipe_file)

    def replace_recipe(self, recipe: Recipe) -> None:
        """Save the recipe with what the run itself settled, so that a resumed run keeps to it."""
        write_text(self.recipe_file, dump_recipe(recipe))

    def log(self, event: str, **fields: Any) -> None:
        """Append one event to log.jsonl, with the UTC time."""
        entry = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event}
        try:
            with self.log_file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry | fields, ensure_ascii=False, default=str) + "\n")
        except OSError as error:
            raise RunError(f"Could not write {self.log_file}: {error.strerror}.") from error

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write summary.json: its presence says that the run ended well."""
        write_json(self.summary_file, summary)

    def summary(self) -> dict[str, Any]:
        """Read summary.json.

        Raises:
            UsageError: the run has not ended.
        """
        if not self.summary_file.is_file():
            raise UsageError(
                f"{self.path} has no summary.json, so its run has not ended. "
                f"`maquette train --resume {self.path}` continues it."
            )
        content: dict[str, Any] = json.loads(self.summary_file.read_text(encoding="utf-8"))
        return content
