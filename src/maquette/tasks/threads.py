"""Work on many images at once, with the results in order and a bounded number waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from maquette.device import cpu_count

Given = TypeVar("Given")
Made = TypeVar("Made")


def in_threads(
    work: Callable[[Given], Made], items: Iterable[Given], *, ahead: int = 64
) -> Iterator[Made]:
    """Map `work` over `items` in order, at most `ahead` results before they are taken.

    Pillow decodes and resizes outside Python's lock, so threads use every core. When the caller
    stops early or `work` raises, what has not begun is dropped.
    """
    pool = ThreadPoolExecutor(cpu_count(), thread_name_prefix="images")
    waiting: deque[Future[Made]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
