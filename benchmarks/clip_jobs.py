"""What clip.py measures: a training step, encoding, and one step of a large batch; see there."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import rounds
from clip_models import captions, make_models, tokenizer

BATCH = 16
LARGE, PIECE = 512, 32
LEARNING_RATE, WEIGHT_DECAY = 1e-6, 0.01
Pieces = list[tuple[Any, Any]]
"""(pixels, ids) of the samples that go through the network at once."""


def step_jobs(options: argparse.Namespace) -> rounds.Jobs:
    """Name -> one training step of ViT-B/32; "step fp32 coco" is a case."""
    import torch

    from maquette.tasks.image_text.architectures import CONFIGURATIONS

    _, precision, texts = options.case.split()
    models = make_models(CONFIGURATIONS["clip_vit_b32"])
    words, tokens = captions(texts, BATCH), tokenizer()
    pixels, padded = torch.randn(BATCH, 3, 224, 224), tokens(words)
    check_equal(models, pixels, padded)
    return {
        "open_clip": open_clip_step(models.open_clip, pixels, padded, precision),
        "transformers": transformers_step(models.transformers, pixels, padded, precision),
        "maquette": our_step(models.ours, [(pixels, tokens.trimmed(words))], precision),
    }


def encode_jobs(options: argparse.Namespace) -> rounds.Jobs:
    """Name -> encoding of images or texts by ViT-B/32; "encode fp32 coco" is a case."""
    import torch

    from maquette.tasks.image_text.architectures import CONFIGURATIONS

    _, precision, texts = options.case.split()
    models = make_models(CONFIGURATIONS["clip_vit_b32"])
    jobs: rounds.Jobs = {}

    def add(name: str, encode: Callable[[Any], Any], given: Any) -> None:
        def job() -> None:
            with torch.inference_mode(), autocast(precision):
                encode(given)

        jobs[name] = job

    for size in (1, 32):
        pixels, padded = torch.randn(size, 3, 224, 224), tokenizer()(captions(texts, size))
        check_equal(models, pixels, padded)
        theirs, other = models.open_clip.eval(), models.transformers.eval()
        add(f"open_clip, image, {size}", theirs.encode_image, pixels)
        add(f"transformers, image, {size}", other.get_image_features, pixels)
        add(f"maquette, image, {size}", models.ours.eval().encode_image, pixels)
        add(f"open_clip, text, {size}", theirs.encode_text, padded)
        add(f"transformers, text, {size}", other.get_text_features, padded)
        add(f"maquette, text, {size}", models.ours.encode_text, padded)
    return jobs


def large_jobs(options: argparse.Namespace) -> rounds.Jobs:
    """Name -> one step of clip_tiny with 512 pairs, whole or in pieces, or with 32 alone."""
    models, pixels, padded, pieces, whole = large_batch()
    theirs = list(zip(pixels.split(PIECE), padded.split(PIECE), strict=True))
    makers: dict[str, Callable[[], Callable[[], object]]] = {
        f"maquette, {PIECE} alone": lambda: our_step(models.ours, pieces[:1], "fp32"),
        f"maquette, {LARGE} cached": lambda: our_step(models.ours, pieces, "fp32"),
        f"maquette, {LARGE} whole": lambda: our_step(models.ours, whole, "fp32"),
        f"open_clip, {LARGE} accumulated": lambda: accumulated_step(models.open_clip, theirs),
        f"open_clip, {LARGE} whole": lambda: open_clip_step(
            models.open_clip, pixels, padded, "fp32"
        ),
    }
    wanted = options.case.removeprefix("large").strip()
    return {name: make() for name, make in makers.items() if wanted in ("", name)}


def large_batch() -> tuple[Any, Any, Any, Pieces, Pieces]:
    """Return models, pixels, padded ids, and both trimmed: in pieces, and whole."""
    import torch

    from maquette.tasks.image_text.architectures import CONFIGURATIONS
    from maquette.tasks.image_text.tokenizer import ClipTokenizer

    words = captions("openstax", LARGE)
    tokens = ClipTokenizer.train(words, vocabulary_size=2048)
    config = CONFIGURATIONS["clip_tiny"].with_vocabulary(tokens.vocab_size, tokens.context_length)
    models = make_models(config, with_transformers=False)
    pixels = torch.randn(LARGE, 3, config.image_size, config.image_size)
    parts = [slice(start, start + PIECE) for start in range(0, LARGE, PIECE)]
    pieces = [(pixels[part], tokens.trimmed(words[part])) for part in parts]
    return models, pixels, tokens(words), pieces, [(pixels, tokens.trimmed(words))]


def our_step(model: Any, pieces: Pieces, precision: str) -> Callable[[], object]:
    """A step as `training/loop.py` takes it: loss, gradients, AdamW, temperature kept in range."""
    from maquette.training.optim import Optimizer

    backward, task, pairs = our_backward(model, pieces, precision)
    optimizer = Optimizer(pairs, name="adamw", weight_decay=WEIGHT_DECAY)

    def step() -> float:
        loss = backward()
        optimizer.step(optimizer.gradients(), LEARNING_RATE)
        task.after_update(pairs)
        optimizer.zero_grad()
        return loss

    return step


def our_backward(
    model: Any, pieces: Pieces, precision: str
) -> tuple[Callable[[], float], Any, Any]:
    """Return what adds up the gradients of a step, the task, and the network around `model`."""
    import torch

    from maquette.device import Device
    from maquette.recipe import make_recipe
    from maquette.tasks.base import Batch
    from maquette.tasks.image_text.model import PairModel
    from maquette.tasks.image_text.task import ImageTextTask
    from maquette.training.coupled import coupled_backward
    from maquette.training.precision import autocast as our_autocast

    training = {"batch_size": len(pieces[0][1]), "precision": precision}
    task = ImageTextTask(make_recipe(RECIPE | {"training": training, "device": "cpu"}))
    pairs = PairModel(model).train()
    task.load_initial_weights(pairs)  # there are none; it chooses what is trained, and attention
    device = Device(name="cpu", precision=precision)
    numbers = torch.arange(sum(len(ids) for _, ids in pieces))
    rows = numbers.split([len(ids) for _, ids in pieces])
    batches = [
        Batch((pixels, ids), torch.stack([row, row], dim=1), row)
        for (pixels, ids), row in zip(pieces, rows, strict=True)
    ]

    def backward() -> float:
        loss, count = coupled_backward(
            task,
            pairs,
            batches,
            device=device.torch_device,
            autocast=lambda: our_autocast(device),
            scale=1 / len(numbers),
        )
        return loss.item() / count

    return backward, task, pairs


def open_clip_step(model: Any, pixels: Any, ids: Any, precision: str) -> Callable[[], object]:
    """A step as open_clip's `train_one_epoch` takes it, with the fused AdamW."""
    import torch
    from open_clip import ClipLoss

    loss_of, optimizer = ClipLoss(), fused_adamw(model.train())

    def step() -> float:
        with autocast(precision):
            loss = loss_of(*model(pixels, ids))
        torch.autograd.backward(loss)
        return update(model, optimizer, loss)

    return step


def transformers_step(model: Any, pixels: Any, ids: Any, precision: str) -> Callable[[], object]:
    """A step of `CLIPModel` with its own loss and the fused AdamW, its Trainer's default.

    Without the attention mask that its processor makes: the tower is causal, and slower with one.
    """
    import torch

    optimizer = fused_adamw(model.train())

    def step() -> float:
        with autocast(precision):
            loss = model(input_ids=ids, pixel_values=pixels, return_loss=True).loss
        torch.autograd.backward(loss)
        return update(model, optimizer, loss)

    return step


def accumulated_step(model: Any, pieces: Pieces) -> Callable[[], object]:
    """A step as open_clip's `train_one_epoch` takes it with --accum-freq."""
    optimizer = fused_adamw(model.train())
    backward = accumulated_backward(model, pieces)
    return lambda: update(model, optimizer, backward())


def accumulated_backward(model: Any, pieces: Pieces) -> Callable[[], Any]:
    """Return what adds up the gradients of such a step; it returns the last loss."""
    import torch
    from open_clip import ClipLoss

    loss_of = ClipLoss()

    def backward() -> Any:
        with torch.no_grad():
            kept = [model(pixels, ids)[:2] for pixels, ids in pieces]
        for number, (pixels, ids) in enumerate(pieces):
            *own, scale = model(pixels, ids)
            features = [*kept[:number], own, *kept[number + 1 :]]
            images, texts = (torch.cat(side) for side in zip(*features, strict=True))
            loss = loss_of(images, texts, scale)
            torch.autograd.backward(loss)
        return loss

    return backward


def fused_adamw(model: Any) -> Any:
    """PyTorch's fastest AdamW, with the numbers of ours."""
    import torch

    return torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
    )


def update(model: Any, optimizer: Any, loss: Any) -> float:
    """AdamW, and the temperature kept in its range as open_clip does."""
    import torch

    optimizer.step()
    optimizer.zero_grad()
    with torch.no_grad():
        model.logit_scale.clamp_(0, 4.6052)
    return float(loss.item())


def autocast(precision: str) -> AbstractContextManager[None]:
    """bfloat16 as the peers' training scripts have it, or nothing."""
    import torch

    return torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext()


def check_equal(models: Any, pixels: Any, ids: Any) -> None:
    """Refuse to measure models that do not compute the same."""
    import torch

    with torch.inference_mode():
        own = models.ours.eval()(pixels, ids)
        theirs = models.open_clip.eval()(pixels, ids)
        other = models.transformers.eval()(pixel_values=pixels, input_ids=ids)
    for side, hugging_face in enumerate((other.image_embeds, other.text_embeds)):
        unit = torch.nn.functional.normalize(own[side], dim=-1)
        torch.testing.assert_close(unit, theirs[side], rtol=0, atol=1e-5)
        torch.testing.assert_close(unit, hugging_face, rtol=0, atol=1e-5)


RECIPE = {
    "name": "benchmark",
    "data": {"image_text": {"path": "unused.csv", "image_size": 224}},
    "model": {"type": "image_text", "name": "clip_vit_b32"},
    "contrastive": {"loss": "infonce"},
}
"""For the task's loss and its rules; no data is read."""
