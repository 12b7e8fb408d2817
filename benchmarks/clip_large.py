"""Memory and gradients of a large batch, the second half of clip.py's part "large"."""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clip_jobs import LARGE, PIECE, accumulated_backward, large_batch, large_jobs, our_backward
from rounds import ROOT

STEPS = 3
CASES = (
    f"maquette, {PIECE} alone",
    f"maquette, {LARGE} cached",
    f"maquette, {LARGE} whole",
    f"open_clip, {LARGE} accumulated",
    f"open_clip, {LARGE} whole",
)


def memory(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Print the peak memory of each way, measured in a process of its own."""
    found = {case: _ask("peak", case, options.threads) for case in CASES}
    alone = found[CASES[0]]
    print(f"\npeak memory{'MiB':>33}{'of it in steps':>18}{'x of 32 alone':>18}")
    for case, peak in found.items():
        print(
            f"{case:<36}{peak['whole']:>8.0f}{peak['steps']:>18.0f}"
            f"{peak['whole'] / alone['whole']:>12.2f} ({peak['steps'] / alone['steps']:.2f})"
        )
    return found


def gradients(options: argparse.Namespace) -> dict[str, float]:
    """Print how far the gradients of each way are from those of the whole batch."""
    found: dict[str, float] = _ask("gradients", "large", options.threads)
    print("\ngradients: norm of the difference by the norm, without and for the temperature")
    for name, difference in found.items():
        print(f"{name:<60}{difference:>12.1e}")
    return found


def _ask(what: str, case: str, threads: int) -> Any:
    command = [sys.executable, str(Path(__file__)), what, case, "--threads", str(threads)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "THP_MEM_ALLOC_ENABLE": "1"}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True)
    if answer.returncode:
        raise SystemExit(f"the benchmark's process ended:\n{answer.stderr}")
    return json.loads(answer.stdout.splitlines()[-1])


def _peak(options: argparse.Namespace) -> dict[str, float]:
    """The most memory of this process, and how much of it came with the steps; MiB."""
    import resource

    import psutil

    options.case = f"large {options.case}"
    (step,) = large_jobs(options).values()
    before = psutil.Process().memory_info().rss / 2**20
    for _ in range(STEPS):
        step()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return {"whole": most, "steps": most - before}


def _gradients() -> dict[str, float]:
    """Relative differences of whole gradients, and of that of the temperature alone."""
    import torch

    models, pixels, padded, pieces, whole = large_batch()
    theirs = list(zip(pixels.split(PIECE), padded.split(PIECE), strict=True))

    def taken(model: Any, backward: Callable[[], object]) -> dict[str, torch.Tensor]:
        for parameter in model.parameters():
            parameter.grad = None
        backward()
        return {name: p.grad.double() for name, p in model.named_parameters() if p.grad is not None}

    ours, other = models.ours, models.open_clip
    found = {
        "whole": taken(ours, our_backward(ours, whole, "fp32")[0]),
        "cached": taken(ours, our_backward(ours, pieces, "fp32")[0]),
        "open_clip": taken(other, accumulated_backward(other, theirs)),
    }
    doubled = copy.deepcopy(ours).double()
    wide, narrow = ([(p.double(), i) for p, i in one] for one in (whole, pieces))
    found["whole64"] = taken(doubled, our_backward(doubled, wide, "fp32")[0])
    found["cached64"] = taken(doubled, our_backward(doubled, narrow, "fp32")[0])

    def apart(one: str, other: str, *, temperature: bool) -> float:
        a, b = (
            torch.cat(
                [g.flatten() for n, g in found[x].items() if (n == "logit_scale") is temperature]
            )
            for x in (one, other)
        )
        return float((a - b).norm() / b.norm())

    pairs = {
        "maquette cached, from maquette whole": ("cached", "whole"),
        "maquette cached, from maquette whole, both float64": ("cached64", "whole64"),
        "maquette cached, from float64": ("cached", "whole64"),
        "maquette whole, from float64": ("whole", "whole64"),
        "open_clip accumulated, from float64": ("open_clip", "whole64"),
    }
    return {
        f"{name}{', temperature' if temperature else ''}": apart(*two, temperature=temperature)
        for name, two in pairs.items()
        for temperature in (False, True)
    }


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("peak", "gradients"))
    parser.add_argument("case")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "src"))
    import torch

    torch.set_num_threads(options.threads)
    found = _peak(options) if options.what == "peak" else _gradients()
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
