"""Write what timm and torchvision compute, for the vision parity tests. Runs in .venv-peers.

    .venv-peers/bin/python tests/parity/make_vision_golden.py

Both references are filled by the formula of `vision_numbers.py` and run in float64. `--seed` and
`--output` make other numbers elsewhere (the live test); `--weights NAMES` also saves weight files
with the references' own random weights, and what the references make of them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision_shim import import_torchvision
from vision_numbers import IMAGE_SHAPE, NUM_CLASSES, fill_state, key_hash, observe, uniform

torchvision = import_torchvision()
import timm  # noqa: E402 - imports torchvision, so it comes after the shim
from safetensors.torch import save_file  # noqa: E402
from timm.models import adapt_input_conv  # noqa: E402

NAMES = (
    "resnet18",
    "resnet34",
    "resnet50",
    "efficientnet_b0",
    "efficientnet_b1",
    "efficientnet_b2",
    "efficientnet_b3",
)
TRAINING = ("resnet18", "efficientnet_b0")
"""Also observed in training mode: batch statistics, their gradients, the running averages."""


def build_peer(peer: str, name: str, **options: Any) -> nn.Module:
    """Build a reference with random weights, without dropout and stochastic depth."""
    if peer == "timm":
        return timm.create_model(name, drop_rate=0.0, drop_path_rate=0.0, **options)
    if name.startswith("efficientnet"):
        options |= {"dropout": 0.0, "stochastic_depth_prob": 0.0}
    return torchvision.models.get_model(name, **options)


def peer_stages(peer: str, name: str, model: nn.Module) -> dict[str, nn.Module]:
    if name.startswith("resnet"):
        return {f"layer{i}": model.get_submodule(f"layer{i}") for i in (1, 2, 3, 4)}
    if peer == "timm":
        return {f"blocks.{i}": model.get_submodule(f"blocks.{i}") for i in range(7)}
    return {f"blocks.{i}": model.get_submodule(f"features.{i + 1}") for i in range(7)}


def describe(name: str, *, seed: int) -> dict[str, Any]:
    """Return the golden facts of one network from both references.

    torchvision's entries get the values of timm's by position: both register the layers of the
    forward pass in order, so this does not use any mapping by names.
    """
    family = name.split("_")[0].rstrip("0123456789")
    whole = timm.create_model(name)
    facts: dict[str, Any] = {"parameters": sum(p.numel() for p in whole.parameters())}
    filled = fill_state(
        build_peer("timm", name, num_classes=NUM_CLASSES).state_dict(), family, seed=seed
    )
    facts["keys"] = key_hash(filled)
    for peer in ("timm", "torchvision"):
        for training in (False, True) if name in TRAINING else (False,):
            model = build_peer(peer, name, num_classes=NUM_CLASSES)
            own_keys = list(model.state_dict())
            assert len(own_keys) == len(filled)
            names = dict(zip(own_keys, filled, strict=True))
            model.load_state_dict({key: filled[names[key]] for key in own_keys})
            facts[f"{peer} {'train' if training else 'eval'}"] = observe(
                model,
                stages=peer_stages(peer, name, model),
                names=names,
                training=training,
                seed=seed,
            )
            if peer == "torchvision" and family == "efficientnet":
                facts["torchvision modules"] = module_names(names)
    return facts


def module_names(names: dict[str, str]) -> dict[str, str]:
    """Shorten a key-to-key table to the modules that hold the tensors."""
    return {
        theirs.rpartition(".")[0]: native.rpartition(".")[0] for theirs, native in names.items()
    }


def save_weights(name: str, folder: Path) -> None:
    """Save both references' weights as people publish them, and the answers that go with them.

    NAME.PEER.answers.safetensors holds the logits of the fixed image in evaluation and, from timm,
    the stem adapted to 1 and to 4 channels.
    """
    image = uniform("image", IMAGE_SHAPE)
    for peer in ("timm", "torchvision"):
        model = build_peer(peer, name, num_classes=NUM_CLASSES).eval()
        with torch.no_grad():
            answers = {"logits": model(image)}
        state = model.state_dict()
        if peer == "timm":
            save_file(state, folder / f"{name}.timm.safetensors")
            stem = next(iter(state.values()))
            answers |= {f"stem {n}": adapt_input_conv(n, stem).contiguous() for n in (1, 4)}
        else:
            torch.save(state, folder / f"{name}.torchvision.pth")
        save_file(answers, folder / f"{name}.{peer}.answers.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "golden")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--names", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--weights", nargs="+", default=(), choices=NAMES)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    for name in args.names:
        facts = {
            "made with": {
                "torch": torch.__version__,
                "timm": timm.__version__,
                "torchvision": torchvision.__version__,
                "seed": args.seed,
            }
        }
        facts |= describe(name, seed=args.seed)
        (args.output / f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n")
    for name in args.weights:
        save_weights(name, args.output)


if __name__ == "__main__":
    main()
