"""How a command ends before its time: by an error the user can mend, or by a signal to stop."""

from __future__ import annotations

from pathlib import Path


class SegError(ValueError):
    """Something the user can mend: a file, a configuration key, an argument.

    The message says what was wrong, where, what was expected and the smallest fix. The command
    line prints it without a traceback and exits with 1.
    """


class Interrupted(Exception):
    """A training run was asked to stop; it stands complete in its folder and can be resumed."""

    def __init__(self, run: Path, step: int, exit_code: int) -> None:
        super().__init__(
            f"stopped after step {step}; go on with: python -m unet_seg train --resume {run}"
        )
        self.exit_code = exit_code
        """130 after SIGINT, 143 after SIGTERM: 128 and the number of the signal, as in a shell."""
