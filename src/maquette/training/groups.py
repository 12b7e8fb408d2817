"""Which micro-batches make one optimiser step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from maquette.tasks.base import Batch


def step_groups(batches: Iterable[Batch], samples: int) -> Iterator[list[Batch]]:
    """Collect batches until they hold `samples` samples or more; the last group may hold less.

    Counting samples instead of batches leaves a source free to cut its batches into pieces.
    """
    group: list[Batch] = []
    held = 0
    for batch in batches:
        group.append(batch)
        held += len(batch)
        if held >= samples:
            yield group
            group, held = [], 0
    if group:
        yield group
