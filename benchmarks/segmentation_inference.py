"""A 2048 x 2048 image by sliding window: peak memory, time, and how far it is from the whole image.

    python benchmarks/segmentation_inference.py

Every case runs in a process of its own, whose peak resident memory is reported together with what
it held before the prediction. The difference is the largest of the logits (whose own range is
given) and the share of pixels whose class differs, over the interior: all but a frame of half a
window. It is measured on a 1024 x 1024 image, where the whole image also fits. Weights are random:
trained ones do not change memory or time, and a difference comes from the receptive field and from
attention over the window instead of the image. Needs unet_seg (PYTHONPATH or installed).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1] / "from_scratch" / "unet_transformer_segmentation"
WIDTHS = (16, 32, 64, 128)
CASES: dict[str, dict[str, Any]] = {
    "unet, batch norm": {"name": "unet"},
    "unet, instance norm": {"name": "unet", "norm": "instance"},
    "unet_transformer, full attention": {"name": "unet_transformer"},
    "unet_transformer, windows of 8 tokens": {"name": "unet_transformer", "window": 8},
}


def build(case: str) -> Any:
    import torch
    from unet_seg.models import build_model

    torch.manual_seed(0)
    model = build_model({"num_classes": 6, "widths": WIDTHS, "dim": 128, "depth": 2, **CASES[case]})
    image = torch.randn(4, 3, 128, 128)
    with torch.no_grad():  # running statistics of something, not the initial 0 and 1
        for _ in range(20):
            model.train()(image)
    return model.eval()


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(case: str, size: int, window: int, overlap: float) -> dict[str, float]:
    """Memory and time of one sliding-window prediction."""
    import numpy as np
    from unet_seg.infer import predict

    model = build(case)
    image = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    before, started = peak_mb(), time.perf_counter()
    predict(model, image, window=window, overlap=overlap)
    return {"before": before, "peak": peak_mb(), "seconds": time.perf_counter() - started}


def compare(case: str, size: int, window: int, overlap: float) -> dict[str, float]:
    """Windows against the whole image at once, over the interior."""
    import torch
    from unet_seg.sliding import sliding_window

    model = build(case)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 3, size // 8, size // 8, generator=generator)
    image = torch.nn.functional.interpolate(noise, scale_factor=8, mode="bilinear")
    with torch.no_grad():
        whole = model(image)
        windows = sliding_window(model, image, window=window, overlap=overlap)
    inner = slice(window // 2, -window // 2)
    whole, windows = whole[..., inner, inner], windows[..., inner, inner]
    differs = (whole.argmax(1) != windows.argmax(1)).float().mean()
    return {
        "difference": float((whole - windows).abs().max()),
        "range": float(whole.max() - whole.min()),
        "pixels": float(differs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--overlap", type=float, default=0.5)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        kind, case = options.work
        both = max(options.size // 2, 2 * options.window)
        work, size = (measure, options.size) if kind == "measure" else (compare, both)
        print(json.dumps(work(case, size, options.window, options.overlap)))
        return
    environment = dict(os.environ, THP_MEM_ALLOC_ENABLE="1", OMP_WAIT_POLICY="PASSIVE")
    environment["PYTHONPATH"] = str(PROJECT / "src")
    for case in options.cases:
        found: dict[str, float] = {}
        for kind in ("measure", "compare"):
            command = [sys.executable, __file__, *sys.argv[1:], "--work", kind, case]
            done = subprocess.run(
                command, env=environment, check=True, stdout=subprocess.PIPE, text=True
            )
            found |= json.loads(done.stdout)
        print(
            f"{case}: peak {found['peak']:.0f} MiB (before: {found['before']:.0f}), "
            f"{found['seconds']:.1f} s; from the whole image: {found['difference']:.2g} of logits "
            f"spanning {found['range']:.3g}, {found['pixels']:.2%} of the interior's pixels",
            flush=True,
        )


if __name__ == "__main__":
    main()
