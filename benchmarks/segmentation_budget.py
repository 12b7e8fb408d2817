"""What a segmentation network learns in a fixed budget: ours and the peers', same data, same loop.

    python benchmarks/segmentation_budget.py toy                      60 CPU-seconds, one thread
    python benchmarks/segmentation_budget.py nuclei --data FOLDER     wall-clock minutes, all cores

Every network sees the same images in the same order, the same loss (cross-entropy + Dice), AdamW
with a warm-up and a cosine over the budget, and is scored by the same code. Each one runs in a
process of its own. `ours` runs as the command line runs it (huge pages, channels_last and, with
--bf16, bfloat16); `--levers` gives the same to the peers. FOLDER is what
from_scratch/unet_transformer_segmentation/scripts/prepare_nuclei.py writes.

Needs the environment of the peers (tests/parity/README.md), with unet_seg on PYTHONPATH.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = ROOT / "from_scratch" / "unet_transformer_segmentation"
NETWORKS = ("ours", "ours_bf16", "monai_unet", "monai_basic", "smp_resnet34")


def make_network(name: str, config: object, num_classes: int):
    """The network called `name`, without pretrained weights."""
    if name.startswith("ours"):
        from unet_seg.models import build_model

        return build_model(config)
    if name == "smp_resnet34":
        sys.path.insert(0, str(ROOT / "tests" / "parity"))
        from torchvision_shim import import_torchvision

        import_torchvision()
        import segmentation_models_pytorch as smp

        return smp.Unet("resnet34", encoder_weights=None, in_channels=3, classes=num_classes)
    from monai.networks.nets import BasicUNet, UNet

    if name == "monai_basic":
        return BasicUNet(spatial_dims=2, in_channels=3, out_channels=num_classes)
    return UNet(
        spatial_dims=2,
        in_channels=3,
        out_channels=num_classes,
        channels=(16, 32, 64, 128, 256),
        strides=(2, 2, 2, 2),
        num_res_units=2,
    )


def fit(
    network: object,
    batches: Iterator[object],
    clock: Callable[[], float],
    budget: float,
    *,
    lr: float,
    loss: Callable[..., object],
    bf16: bool,
    channels_last: bool,
    average_decay: float | None,
) -> tuple[object, int, float]:
    """Train until the clock has advanced by `budget`; returns what is scored, steps, seconds."""
    import torch
    from unet_seg.config import OptimConfig
    from unet_seg.optim import WeightAverage, build_optimizer, learning_rate, set_learning_rate

    optim = OptimConfig(lr=lr)
    optimizer = build_optimizer(network, optim)
    average = WeightAverage(network, average_decay) if average_decay else None
    network.train()
    started, step, progress = clock(), 0, 0.0
    while progress < 1:
        batch = next(batches)
        set_learning_rate(optimizer, learning_rate(optim, step, progress))
        image = batch.image
        if channels_last:
            image = image.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            logits = network(image)
        loss(logits.float(), batch.mask, batch.valid).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if average:
            average.update(network)
        step += 1
        progress = (clock() - started) / budget
    return (average.model if average else network), step, clock() - started


def score(network: object, dataset: object, data: object, classes: tuple[str, ...]) -> dict:
    """Pooled scores over a split, every image at its own size (padded to a multiple of 32)."""
    import torch
    from unet_seg.data.batches import eval_batches
    from unet_seg.metrics import SegmentationMeter

    meter = SegmentationMeter(classes)
    network.eval()
    with torch.no_grad():
        for batch in eval_batches(dataset, data, batch_size=8, num_workers=0, multiple=32):
            meter.update(network(batch.image).argmax(dim=1), batch.mask, batch.valid)
    return meter.compute()


def run_one(options: argparse.Namespace) -> None:
    """Train and score one network in this process; prints one JSON line."""
    import torch
    from unet_seg.config import config_from_dict, load_config
    from unet_seg.data.batches import train_batches
    from unet_seg.data.build import build_datasets
    from unet_seg.losses import build_loss

    torch.manual_seed(options.seed)
    name = options.network
    is_ours = name.startswith("ours")
    overrides = [f"seed={options.seed}", *options.set]
    if options.job == "nuclei":
        config = load_config(PROJECT / "configs" / "nuclei.yaml", overrides)
        config = replace_root(config, options.data, config_from_dict)
    else:
        torch.set_num_threads(1)
        config = load_config(PROJECT / "configs" / "budget.yaml", overrides)
    datasets = build_datasets(config)
    if options.job == "toy":  # drawn beforehand: the budget is for learning, not for drawing
        datasets = {split: Kept(dataset) for split, dataset in datasets.items()}
    network = make_network(name, config, len(config.data.classes))
    levers = is_ours or options.levers
    if levers:
        network.to(memory_format=torch.channels_last)
    batches = train_batches(
        datasets["train"],
        config.data,
        seed=config.seed,
        batch_size=config.train.batch_size,
        start_step=0,
        steps=10**6,
        num_workers=0,
        multiple=32,
    )
    clock = time.process_time if options.job == "toy" else time.perf_counter
    trained, steps, seconds = fit(
        network,
        batches,
        clock,
        options.seconds,
        lr=config.optim.lr if is_ours else options.peer_lr,
        loss=build_loss(config.loss, len(config.data.classes)),
        bf16=name == "ours_bf16" or (options.levers and options.bf16),
        channels_last=levers,
        average_decay=config.optim.ema_decay if is_ours else None,
    )
    scores = score(trained, datasets["test"], config.data, config.data.classes)
    result = {
        "network": name,
        "seed": options.seed,
        "levers": bool(levers),
        "parameters": sum(p.numel() for p in network.parameters()),
        "steps": steps,
        "seconds": round(seconds, 1),
        "mean_iou": round(scores["mean_iou"], 4),
        "mean_iou_foreground": round(scores["mean_iou_foreground"], 4),
    }
    print(json.dumps(result), flush=True)


class Kept:
    """A dataset with every sample kept in memory."""

    def __init__(self, dataset: object) -> None:
        self.samples = [dataset[i] for i in range(len(dataset))]
        self.classes = dataset.classes

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> object:
        return self.samples[index]


def replace_root(config: object, root: Path, make: Callable[..., object]) -> object:
    from unet_seg.config import config_to_dict

    values = config_to_dict(config)
    values["data"]["folder"]["root"] = str(root)
    return make(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("job", choices=("toy", "nuclei"))
    parser.add_argument("--data", type=Path, help="prepared nuclei folder")
    parser.add_argument("--seconds", type=float, help="budget (default: toy 60, nuclei 600)")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--peer-lr", type=float, default=1e-3)
    parser.add_argument("--levers", action="store_true", help="our memory settings for peers too")
    parser.add_argument("--bf16", action="store_true", help="with --levers: bfloat16 for peers")
    parser.add_argument("--set", nargs="*", default=[], help="overrides of our configuration")
    parser.add_argument("--network", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.seconds = options.seconds or (60.0 if options.job == "toy" else 600.0)
    if options.network:
        run_one(options)
        return
    if options.job == "nuclei" and options.data is None:
        raise SystemExit("nuclei needs --data FOLDER, written by scripts/prepare_nuclei.py")
    for seed in options.seeds:  # alternated, so that a busy minute does not hit one network alone
        for network in options.networks:
            environment = dict(os.environ, OMP_WAIT_POLICY="PASSIVE")
            if network.startswith("ours") or options.levers:
                environment["THP_MEM_ALLOC_ENABLE"] = "1"
            environment["PYTHONPATH"] = str(PROJECT / "src")
            command = [sys.executable, __file__, *sys.argv[1:]]
            command += ["--network", network, "--seed", str(seed)]
            subprocess.run(command, env=environment, check=True)


if __name__ == "__main__":
    main()
