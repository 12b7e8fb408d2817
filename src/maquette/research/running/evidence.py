"""What was seen of one watched run: `sandbox.py` gathers it, `judge.py` judges it.

Sizes are bytes and times are seconds. Everything was measured; nothing here is a judgement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from maquette.research.records import RunRecord

Ended = Literal["exit", "time_limit", "memory_limit", "output_limit"]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One run of one program."""

    command: tuple[str, ...] = ()
    """What ran, as a person would type it."""
    exit_code: int | None
    """None: it was killed at a limit. Negative: a signal ended it, such as -11, a bad address."""
    ended: Ended
    seconds: float
    """From start to end by the clock."""
    peak_bytes: int
    """The most memory that the program and all its children held together."""
    gpu_peak_bytes: int | None = None
    """The most memory that tensors held on CUDA devices; None: none was used."""
    stdout_tail: str = ""
    """The end of what it printed; the whole, up to the limit, is in stdout.txt."""
    stderr_tail: str = ""
    observed: bool = False
    """Whether the guard was inside; without it the fields below say nothing."""
    confined: bool = False
    """Whether the system, too, refused such writes: of children in any language, of C code."""
    wrote_outside: tuple[str, ...] = ()
    """What it tried to write outside its folders and was refused: "/home/ada/x.txt (open)"."""
    steps: int = 0
    """How many steps torch's optimisers took."""
    bad_gradients: tuple[str, ...] = ()
    """The first step with a gradient that is not finite: "step 12: nan in layer.weight"."""
    bad_losses: tuple[str, ...] = ()
    """Values from which `backward()` began that are not finite: "step 12: nan"."""
    read_files: Mapping[str, str] = field(default_factory=dict)
    """Data files that it read: absolute path -> SHA-256 of what lies there after the run."""
    record: RunRecord | None = None
    """The record that it wrote; filled in by `validate.py` and `recipe_run.py`."""
    record_problem: str | None = None
    """Why there is no record."""
