"""Every error a user can cause: what happened, where, and the smallest change that fixes it.

The command line prints `str(error)` and exits with `error.exit_code`; the server answers with
`error.http_status`. Nothing a user does may end in a traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class MaquetteError(Exception):
    """Base of every error that is the input's fault, not ours."""

    exit_code = 1
    http_status = 500


class UsageError(MaquetteError):
    """The command or the recipe asks for something that does not exist or cannot be meant."""

    exit_code = 2
    http_status = 400


class RecipeError(UsageError):
    """A recipe cannot be read; the text names file:line, the key, and what is allowed there."""


class DataError(MaquetteError):
    """Data cannot be used as it is; the text names the file, row, column and value."""

    http_status = 422


class RunError(MaquetteError):
    """A run stopped: loss not finite, disk full, a checkpoint that does not fit."""


class BundleError(MaquetteError):
    """A bundle is damaged, too new, or does not reproduce its own probe answers."""


class TrackingError(MaquetteError):
    """The tracking server or registry cannot do what was asked."""

    http_status = 503


class RequestError(MaquetteError):
    """A prediction request that cannot be answered, with the HTTP status that says why."""

    def __init__(self, message: str, *, status: int = 422) -> None:
        super().__init__(message)
        self.http_status = status


def nearest(given: str, allowed: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the nearest allowed spelling, or "" when none is near."""
    near = get_close_matches(given, list(allowed), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def one_of(what: str, given: str, allowed: Iterable[str]) -> str:
    """Return the sentence for an unknown name: what was given, the nearest, and the whole list."""
    names = sorted(allowed)
    return f"Unknown {what} {given!r}.{nearest(given, names)} Available: {', '.join(names)}."
