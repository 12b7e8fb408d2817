"""Errors that PyTorch raises in the middle of a training, said so that the reader can act."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from maquette.device import Device
from maquette.errors import RunError
from maquette.recipe import Recipe


@contextmanager
def explained(recipe: Recipe, device: Device) -> Iterator[None]:
    """Turn the failures a recipe can cause into a `RunError`; others pass unchanged."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        message = _explain(str(error), recipe, device)
        if message is None:
            raise
        raise RunError(message) from error


def _explain(text: str, recipe: Recipe, device: Device) -> str | None:
    training = recipe.training
    if "out of memory" in text or "can't allocate memory" in text or "not enough memory" in text:
        half = max(1, training.micro_batch // 2)
        return (
            f"The {device.name} ran out of memory at training.batch_size={training.batch_size}. "
            f"training.batch_size={half} with training.accumulate={training.accumulate * 2} takes "
            "less and learns the same; a smaller model or image size takes less still."
        )
    if "does not have a deterministic implementation" in text:
        operation = text.partition(" ")[0]
        return (
            f"{operation} gives another result from run to run on {device.name}, and the recipe "
            "says deterministic: true. Use deterministic=false, or device=cpu."
        )
    if "Expected more than 1 value per channel" in text:
        return (
            f"Batch normalisation needs batches of at least 2 samples, and got 1 "
            f"(training.batch_size is {training.batch_size}). Use training.batch_size=2 or more, "
            "or another normalisation."
        )
    return None
