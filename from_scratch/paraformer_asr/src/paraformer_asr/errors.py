"""What a user of the package can run into: a mistake to mend, or a run that was told to stop."""

from __future__ import annotations

from pathlib import Path


class AsrError(ValueError):
    """A mistake the user can mend, in a file, a recording, a manifest line or a configuration key.

    The text names the place, what was found there, what belongs there and the smallest fix. The
    command line prints it after "error:" and exits with 1; no traceback.
    """


class Stopped(Exception):
    """SIGINT or SIGTERM arrived; the run's folder is whole and training can be resumed from it."""

    def __init__(self, run: Path, step: int, signal_number: int) -> None:
        self.run = run
        self.step = step
        self.exit_code = 128 + signal_number
        """What a shell expects of a process that ended by a signal: 130 or 143."""
        super().__init__(
            f"stopped after step {step}; resume with: python -m paraformer_asr train --resume {run}"
        )
