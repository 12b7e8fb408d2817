"""The one kind of error a user of this package can cause."""

from __future__ import annotations


class SegError(ValueError):
    """Something the user can mend: a file, a configuration key, an argument.

    The message says what was wrong, where, what was expected and the smallest fix. The command
    line prints it without a traceback and exits with 1.
    """
