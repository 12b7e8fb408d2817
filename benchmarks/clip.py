"""Speed and memory of image-text training: maquette against open_clip and transformers.

    .venv-peers/bin/python benchmarks/clip.py
    .venv-peers/bin/python benchmarks/clip.py --parts step --precisions bf16 --captions coco

step     one training step of ViT-B/32 with 16 pairs: forward, InfoNCE, backward, AdamW.
         Captions are real: coco's are short (about 14 tokens), those of openstax figures long
         (about 50, some of them cut at 77). The peers pad them to 77.
encode   images and texts of ViT-B/32, 1 and 32 at a time, without gradients.
large    one step of clip_tiny with 512 pairs: our gradient caching in pieces of 32, open_clip's
         way of accumulating (--accum-freq 16), and the whole batch at once; then the peak memory of
         each in a process of its own; then the gradients of all against the whole batch.

All models have the same weights, which is checked before anything is measured. `clip_jobs.py` has
the steps, `rounds.py` says how it is measured and what the columns mean. Needs about 11 GiB of
memory, because two processes hold three models with their optimisers.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

import clip_large
import rounds
from clip_jobs import BATCH, encode_jobs, large_jobs, step_jobs
from clip_models import CAPTIONS, SOURCE, use_levers

PARTS: dict[str, Callable[[argparse.Namespace], rounds.Jobs]] = {
    "step": step_jobs,
    "encode": encode_jobs,
    "large": large_jobs,
}
PEERS = ("open_clip", "transformers")


def main() -> int:
    parser = rounds.parser(__doc__)
    parser.set_defaults(rounds=7)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--captions", nargs="+", choices=CAPTIONS, default=list(CAPTIONS))
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        jobs_of = PARTS[options.case.split()[0]]
        rounds.serve(options, jobs_of, source=SOURCE, use_levers=use_levers)
        return 0
    results: dict[str, Any] = {}
    for case in _cases(options):
        print(f"\n{case}", flush=True)
        results[case] = rounds.measure(__file__, options, ["--case", case])
        results[case]["summary"] = _report(case, results[case])
        rounds.save(options.out, results)
    if "large" in options.parts:
        results["large memory"] = clip_large.memory(options)
        results["large gradients"] = clip_large.gradients(options)
        rounds.save(options.out, results)
    return 0


def _cases(options: argparse.Namespace) -> list[str]:
    cases = []
    if "step" in options.parts:
        cases += [f"step {p} {c}" for p in options.precisions for c in options.captions]
    if "encode" in options.parts:
        cases += [f"encode {p} {c}" for p in options.precisions for c in options.captions]
    return cases + ["large"] * ("large" in options.parts)


def _report(case: str, result: dict[str, Any]) -> dict[str, Any]:
    jobs = list(result["seconds"]["plain"])
    if case == "large":
        cached = next(job for job in jobs if job.endswith("cached"))
        pairs = [(cached, job) for job in jobs if job != cached and "alone" not in job]
        return rounds.report(
            result, pairs, lambda s: f"{s:.2f} s, {clip_large.LARGE / s:.0f} pairs/s"
        )
    pairs = [
        (job, job.replace("maquette", peer))
        for job in jobs
        if job.startswith("maquette")
        for peer in PEERS
    ]
    step = case.startswith("step")
    return rounds.report(
        result, pairs, lambda s: f"{s:.2f} s, {BATCH / s:.1f}/s" if step else f"{1e3 * s:.1f} ms"
    )


if __name__ == "__main__":
    sys.exit(main())
