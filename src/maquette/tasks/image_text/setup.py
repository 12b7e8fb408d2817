"""From a recipe to what the task works with: domain, loss, augmentation, prompts.

Whatever the recipe leaves open is the domain's, then the loss's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from maquette.errors import UsageError
from maquette.recipe import Recipe
from maquette.recipe.augmentation import Augmentation, TextAugmentation
from maquette.recipe.image_text import Contrastive, Finetune, ImageTextData
from maquette.tasks.image_text.architectures import CONFIGURATIONS
from maquette.tasks.image_text.domains import Domain, read_domain
from maquette.tasks.image_text.resolution import check_sizes


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A recipe with everything filled in."""

    data: ImageTextData
    domain: Domain
    contrastive: Contrastive
    finetune: Finetune
    loss: str
    """A key of `LOSSES`."""
    loss_parameters: Mapping[str, float]
    augmentation: Augmentation
    text_augmentation: TextAugmentation
    prompts: tuple[str, ...]
    """Each with "{}" for the name of a class."""


def setup_of(recipe: Recipe) -> Setup:
    """Fill in what the recipe leaves to its domain.

    Raises:
        UsageError: the domain or loss does not exist, or settings do not go together.
    """
    data = recipe.data.image_text
    assert data is not None, "Recipe guarantees data.image_text for this task"
    domain = read_domain(data.domain)
    contrastive = recipe.contrastive or Contrastive()
    is_domains = contrastive.loss in ("auto", domain.loss.name)
    setup = Setup(
        data=data,
        domain=domain,
        contrastive=contrastive,
        finetune=recipe.finetune or Finetune(),
        loss=domain.loss.name if contrastive.loss == "auto" else contrastive.loss,
        loss_parameters={
            **(domain.loss.parameters if is_domains else {}),
            **contrastive.parameters,
        },
        augmentation=data.augmentation or domain.augmentation,
        text_augmentation=data.text_augmentation
        or (TextAugmentation() if is_labelled(data) else domain.text_augmentation),
        prompts=data.templates or tuple(domain.prompts),
    )
    _refuse_misfit(recipe, setup)
    if recipe.model.name in CONFIGURATIONS:
        sizes = data.resolution
        others = {step.size for step in sizes.progressive} | {*sizes.multi_scale, *sizes.evaluate}
        check_sizes([data.image_size, *others], CONFIGURATIONS[recipe.model.name].stride)
    return setup


def _refuse_misfit(recipe: Recipe, setup: Setup) -> None:
    weights = recipe.model.architecture.weights
    if setup.finetune.wise_ft and weights is None:
        raise UsageError(
            "finetune.wise_ft averages old and new weights, so it needs a checkpoint to start "
            "from: set model.architecture.weights, or wise_ft: false."
        )
    if setup.finetune.wise_ft and setup.data.tokenizer != "auto":
        raise UsageError(
            f"finetune.wise_ft averages old and new weights, but with the tokenizer "
            f"{setup.data.tokenizer} the old token embeddings mean other words; use "
            "data.image_text.tokenizer: auto, or wise_ft: false."
        )
    if setup.finetune.method in ("lit", "lora") and weights is None:
        raise UsageError(
            f"finetune.method is {setup.finetune.method!r}, which keeps the weights of a "
            "checkpoint, but model.architecture.weights names none; set it, or method: full."
        )
    if setup.finetune.method == "flyp" and not is_labelled(setup.data):
        raise UsageError(
            "finetune.method is 'flyp', which learns from class prompts, but the data has "
            "captions; give class folders or data.image_text.label_column with text_columns: [], "
            "or method: full."
        )
    if setup.loss == "cyclip" and setup.contrastive.similarity == "euclidean":
        raise UsageError(
            "contrastive.loss 'cyclip' compares images with images and texts with texts by their "
            "cosines, which similarity 'euclidean' does not keep; use similarity: cosine, or "
            "another loss."
        )
    if setup.loss == "distillation" and setup.contrastive.teacher is None:
        raise UsageError(
            "contrastive.loss is 'distillation', so contrastive.teacher must name a checkpoint."
        )
    if recipe.training.loss != "auto":
        raise UsageError(
            f"training.loss is {recipe.training.loss!r}, which pairs do not have; leave it out and "
            "set contrastive.loss."
        )
    if recipe.training.class_weights != "none" or recipe.training.label_smoothing:
        raise UsageError(
            "training.class_weights and training.label_smoothing belong to classifiers; for pairs "
            "use contrastive: {loss: infonce, parameters: {label_smoothing: 0.1}}."
        )
    if recipe.training.batch_size != "auto" and recipe.training.step_samples == 1:
        raise UsageError(
            f"training.batch_size is 1, and the loss {setup.loss!r} compares the pairs of a step "
            "with each other: with one there is nothing to learn. Use batch_size: 2 or more, or "
            "effective_batch: 64 with batch_size: 1."
        )


def is_labelled(data: ImageTextData) -> bool:
    """Whether class prompts stand for captions: class folders, or a manifest without texts."""
    if data.label_column is not None and not data.text_columns:
        return True
    return not data.path.startswith("catalogue:") and Path(data.path).is_dir()
