"""What a finished image-text network is worth: retrieval, classes, sizes, with intervals.

`measure_pairs` does the work; `pair_facts` adds to summary.json what only pairs have.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from maquette.device import Device
from maquette.evaluation.baselines import Baseline
from maquette.evaluation.bootstrap import Interval
from maquette.evaluation.linear_probe import LinearProbe, linear_probe
from maquette.evaluation.pair_report_data import SizeScore, WiseFt
from maquette.evaluation.retrieval import (
    Ranks,
    chance_metrics,
    retrieval_intervals,
    retrieval_ranks,
)
from maquette.evaluation.zero_shot import ZeroShot, zero_shot
from maquette.tasks.base import Json, Source, Splits
from maquette.tasks.image_text.classes import prepared_prompts
from maquette.tasks.image_text.data import ImageTextSamples
from maquette.tasks.image_text.model import PairModel
from maquette.tasks.image_text.preprocess import ImageTextPreprocessor
from maquette.tasks.image_text.resolution import check_sizes
from maquette.tasks.image_text.task import ImageTextTask
from maquette.training.scoring import Scores, score

Features = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class PairOutcome:
    """The measured network; n test pairs."""

    metrics: dict[str, float]
    """valid/… and test/… of every metric; test/accuracy where images have classes."""
    intervals: dict[str, Interval]
    """test/… bootstrap intervals."""
    chance: dict[str, float]
    """What a random ranking of the test split would score."""
    images: Features
    """(n, E') prepared features."""
    texts: Features
    """(n, E')"""
    ranks: Ranks
    """Where each test image and text found its partner."""
    sizes: Sequence[SizeScore]
    zero_shot: ZeroShot | None
    linear_probe: LinearProbe | None
    wise_ft: WiseFt | None
    num_parameters: int
    baselines: Sequence[Baseline] = field(default=())


def measure_pairs(
    task: ImageTextTask,
    preprocessor: ImageTextPreprocessor,
    model: PairModel,
    splits: Splits[ImageTextSamples],
    *,
    valid: Source,
    device: Device,
    finished: Json,
) -> PairOutcome:
    """Score the network on the validation and test splits, at every size the recipe asks for.

    Args:
        valid: the validation split as training prepared it.
        finished: what `task.finish` returned.
    """
    metrics: dict[str, float] = {}
    test = task.prepare(splits.test, preprocessor, augment=False)
    for name, source in (("valid", valid), ("test", test)):
        scores = score(task, preprocessor, model, source, device=device)
        metrics |= {f"{name}/{metric}": value for metric, value in scores.metrics.items()}
    images, texts = _sides(scores)
    groups = scores.targets.numpy()
    ranks = retrieval_ranks(images, texts, groups[:, 0], groups[:, 1])
    classified = _zero_shot(preprocessor, model, splits, images)
    if classified is not None:
        metrics |= {f"test/{name}": classified.metrics[name] for name in ("accuracy", "f1_macro")}
    wise_ft = finished.get("wise_ft")
    before = _before_training(task, preprocessor, splits.test, device)
    return PairOutcome(
        metrics=metrics,
        intervals=_intervals(task, ranks),
        chance=chance_metrics(groups[:, 0], groups[:, 1]),
        images=images,
        texts=texts,
        ranks=ranks,
        sizes=_at_sizes(task, preprocessor, model, splits.test, device, metrics),
        zero_shot=classified,
        linear_probe=_probe(task, preprocessor, model, splits, images, device),
        wise_ft=None if wise_ft is None else _curve(wise_ft),
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        baselines=[] if before is None else [before],
    )


def pair_facts(task: ImageTextTask, outcome: PairOutcome, splits: Splits[ImageTextSamples]) -> Json:
    """Return the keys of summary.json that only image-text runs have."""
    recipe, setup = task.recipe, task.setup
    weights = recipe.model.architecture.weights
    resolution = setup.data.resolution
    sizes = [str(setup.data.image_size), *map(str, resolution.multi_scale)]
    sizes += [f"{step.size} until {step.until:g}" for step in resolution.progressive]
    tags = {
        "domain": setup.domain.name,
        "base_model": "none" if weights is None else str(weights),
        "loss": setup.loss,
        "similarity": setup.contrastive.similarity,
        "finetune": setup.finetune.method,
        "resolutions": ", ".join(sizes),
        "modalities": "image, text",
    }
    digest = splits.report.summary.get("sha256")
    if digest is not None:
        tags["dataset_sha256"] = str(digest)
    found: Json = {
        "chance": outcome.chance,
        "sizes": [{"size": one.size, "metrics": dict(one.metrics)} for one in outcome.sizes],
        "tags": tags,
        "loss_parameters": task.parameters,
    }
    if outcome.zero_shot is not None:
        found["zero_shot"] = outcome.zero_shot.metrics
    if outcome.linear_probe is not None:
        found["linear_probe"] = outcome.linear_probe.metrics
    if outcome.wise_ft is not None:
        found["wise_ft_alpha"] = outcome.wise_ft.best_alpha
    return found


def evaluate_sizes(
    task: ImageTextTask,
    preprocessor: Any,
    model: Any,
    samples: ImageTextSamples,
    sizes: Sequence[int],
    *,
    device: Device,
) -> list[SizeScore]:
    """Score one split with images of several sizes, the smallest first.

    Raises:
        UsageError: a size that the patches do not divide.
    """
    check_sizes(sizes, model.clip.config.stride)
    found = []
    for size in sorted(set(sizes)):
        source = task.prepare_at(samples, preprocessor, size=size)
        found.append(
            SizeScore(size=size, metrics=_score(task, preprocessor, model, source, device))
        )
    return found


def _before_training(
    task: ImageTextTask,
    preprocessor: ImageTextPreprocessor,
    test: ImageTextSamples,
    device: Device,
) -> Baseline | None:
    """Score the checkpoint the run started from on the same pairs: what training was worth."""
    if task.recipe.model.architecture.weights is None or not task.recipe.evaluation.baselines:
        return None
    started = time.perf_counter()
    model = task.build_model(preprocessor)
    task.load_initial_weights(model)
    model.to(device.torch_device)
    source = task.prepare(test, preprocessor, augment=False)
    scores = score(task, preprocessor, model, source, device=device)
    seconds = time.perf_counter() - started
    return Baseline(name="before training", metrics=scores.metrics, seconds=seconds)


def _at_sizes(
    task: ImageTextTask,
    preprocessor: ImageTextPreprocessor,
    model: PairModel,
    test: ImageTextSamples,
    device: Device,
    metrics: dict[str, float],
) -> list[SizeScore]:
    wanted = set(task.setup.data.resolution.evaluate) - {task.setup.data.image_size}
    if not wanted:
        return []
    others = evaluate_sizes(task, preprocessor, model, test, sorted(wanted), device=device)
    own = {k.removeprefix("test/"): v for k, v in metrics.items() if k.startswith("test/")}
    trained = SizeScore(size=task.setup.data.image_size, metrics=own)
    return sorted([*others, trained], key=lambda one: one.size)


def _score(
    task: ImageTextTask,
    preprocessor: ImageTextPreprocessor,
    model: PairModel,
    source: Source,
    device: Device,
) -> dict[str, float]:
    return score(task, preprocessor, model, source, device=device, batch_size=64).metrics


def _sides(scores: Scores) -> tuple[Features, Features]:
    features = scores.outputs.numpy()
    return features[:, 0], features[:, 1]


def _intervals(task: ImageTextTask, ranks: Ranks) -> dict[str, Interval]:
    settings = task.recipe.evaluation
    if settings.bootstrap == 0:
        return {}
    found = retrieval_intervals(
        ranks,
        resamples=settings.bootstrap,
        confidence=settings.confidence,
        seed=task.recipe.seed,
    )
    return {f"test/{name}": interval for name, interval in found.items()}


def _zero_shot(
    preprocessor: ImageTextPreprocessor,
    model: PairModel,
    splits: Splits[ImageTextSamples],
    images: Features,
) -> ZeroShot | None:
    """Classify the distinct test images by the domain's prompts, where they have classes."""
    test, classes = splits.test, splits.train.classes
    if test.labels is None or classes is None or len(classes) < 2:
        return None
    numbers = {name: number for number, name in enumerate(classes)}
    rows = np.unique(test.images, return_index=True)[1]
    features = prepared_prompts(model, preprocessor.tokenizer, classes, preprocessor.prompts)
    with torch.no_grad():
        scale = float(model.clip.logit_scale.exp())
    return zero_shot(
        images[rows],
        features.numpy(),
        [numbers[label] for label in test.labels[rows]],
        classes=classes,
        prompts=preprocessor.prompts,
        scale=scale,
    )


def _probe(
    task: ImageTextTask,
    preprocessor: ImageTextPreprocessor,
    model: PairModel,
    splits: Splits[ImageTextSamples],
    images: Features,
    device: Device,
) -> LinearProbe | None:
    """Fit a logistic regression on the features of the training images."""
    train, test = splits.train, splits.test
    if train.labels is None or test.labels is None:
        return None
    source = task.prepare(train, preprocessor, augment=False)
    train_images, _ = _sides(score(task, preprocessor, model, source, device=device))
    seen = np.unique(train.images, return_index=True)[1]
    asked = np.unique(test.images, return_index=True)[1]
    return linear_probe(
        train_images[seen],
        train.labels[seen],
        images[asked],
        test.labels[asked],
        seed=task.recipe.seed,
    )


def _curve(found: Json) -> WiseFt:
    return WiseFt(
        alphas=found["alphas"],
        scores=found["scores"],
        best_alpha=found["best_alpha"],
        metric=found["monitor"],
    )
