"""Which weights of a CLIP are trained, how fast, and how old and new ones are averaged.

- `prepare_model` freezes what the method keeps and adds what it learns; `merge` folds that in.
- `layer_rates`: layers far from the output learn more slowly.
- `wise_ft`: between the weights before and after training there are better ones than both.
- `freeze_batch_norm`: for ResNet towers whose batches are cut into pieces.

The methods: full, all weights; lit, the text tower alone (Zhai et al. 2022, "LiT: zero-shot
transfer with locked-image text tuning"); lora, low-rank additions (Hu et al. 2021); flyp, all
weights, on the prompts of classes (Goyal et al. 2023, "Finetune like you pretrain"): what it trains
is what full trains.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from maquette.errors import UsageError
from maquette.nn.lora import LoraLinear, LowRank, add_to_linear, merged
from maquette.recipe.image_text import Finetune
from maquette.tasks.image_text.clip import CLIP, Block, SelfAttention
from maquette.tasks.image_text.clip_resnet import AttentionPool2d, Bottleneck

ROWS = ("q", "k", "v")
"""The parts of `in_proj_weight`, from top to bottom."""
POOL_LAYERS = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "out": "c_proj"}
"""LoRA target -> the layer of a ResNet's attention pooling."""


@dataclass(frozen=True, kw_only=True)
class FinetuneReport:
    """What is trained."""

    trainable: int
    """Weights that are trained, additions included."""
    frozen: int
    """Weights that stay as they are."""
    lines: tuple[str, ...]
    """The same for people."""


def prepare_model(
    model: CLIP, finetune: Finetune, *, new_vocabulary: bool = False
) -> FinetuneReport:
    """Freeze and extend `model` in place, as the method says; its outputs stay the same.

    The temperature is trained by every method, and stays a parameter to be frozen by the caller.

    Args:
        model: with the weights to start from.
        new_vocabulary: the tokens have random embeddings, so these are trained by every method.
    Raises:
        UsageError: the rank is above what a layer can take, or there is no layer to add to.
    """
    method = finetune.method
    line = "all weights are trained"
    if method == "lit":
        model.visual.requires_grad_(requires_grad=False)
        keep_in_evaluation(model.visual)
        line = "the image tower is locked, the text tower is trained"
    elif method == "lora":
        model.requires_grad_(requires_grad=False)
        model.logit_scale.requires_grad_()
        added = _add_low_rank(model, finetune)
        freeze_batch_norm(model)
        line = (
            f"rank {finetune.lora_rank} is added to {added} matrices "
            f"({', '.join(finetune.lora_targets)})"
        )
        if new_vocabulary:
            model.token_embedding.requires_grad_()
            line += "; the embeddings of the new tokens are trained"
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    share = trainable / (trainable + frozen)
    return FinetuneReport(
        trainable=trainable,
        frozen=frozen,
        lines=(
            f"finetune: {method}: {line}",
            f"finetune: {trainable:,} weights are trained ({share:.1%}), {frozen:,} are frozen",
        ),
    )


def _add_low_rank(model: CLIP, finetune: Finetune) -> int:
    """Put an addition beside every target of both towers; return how many."""
    narrowest = min(min(p.shape) for m in model.modules() for p in _matrices(m))
    if finetune.lora_rank > narrowest:
        raise UsageError(
            f"finetune.lora_rank is {finetune.lora_rank}, but the narrowest matrix of this network "
            f"is {narrowest} wide, where a rank of {narrowest} is the whole matrix; use "
            f"finetune.lora_rank={max(1, narrowest // 8)}, or method: full."
        )
    rank, dropout = finetune.lora_rank, finetune.lora_dropout
    alpha = 2.0 * rank if finetune.lora_alpha is None else finetune.lora_alpha
    added = 0
    for module in list(model.modules()):
        for target in finetune.lora_targets:
            if isinstance(module, SelfAttention) and target in ROWS:
                weight = module.in_proj_weight
                module.low_rank[target] = LowRank(
                    in_features=weight.shape[1],
                    out_features=weight.shape[1],
                    rank=rank,
                    alpha=alpha,
                    dropout=dropout,
                ).to(weight)
            elif (place := _linear_of(module, target)) is not None:
                add_to_linear(*place, rank=rank, alpha=alpha, dropout=dropout)
            else:
                continue
            added += 1
    if not added:
        raise UsageError(
            "finetune.method is 'lora', but finetune.lora_targets names no layer of this network; "
            "use lora_targets: [q, v]."
        )
    return added


def _matrices(module: nn.Module) -> Iterator[Tensor]:
    """The matrices that LoRA may be added to."""
    if isinstance(module, SelfAttention):
        yield module.in_proj_weight
    elif isinstance(module, AttentionPool2d):
        yield from (module.get_submodule(name).weight for name in POOL_LAYERS.values())  # type: ignore[misc]


def _linear_of(module: nn.Module, target: str) -> tuple[nn.Module, str] | None:
    """Return the parent and the name of the linear layer that is this target of `module`."""
    if isinstance(module, Block) and target == "out":
        return module.attn, "out_proj"
    if isinstance(module, Block) and target in ("fc", "proj"):
        return module.mlp, f"c_{target}"
    if isinstance(module, AttentionPool2d) and target in POOL_LAYERS:
        return module, POOL_LAYERS[target]
    return None


@torch.no_grad()
def merge(model: CLIP) -> CLIP:
    """Fold LoRA's additions into the weights, in place; without any, nothing happens.

    Afterwards the state dict has the keys of a CLIP again, and the outputs are what they were.
    """
    for module in list(model.modules()):
        if isinstance(module, SelfAttention):
            width = module.in_proj_weight.shape[1]
            for part in list(module.low_rank):
                addition = module.low_rank.pop(part)
                assert isinstance(addition, LowRank), "prepare_model adds nothing else"
                first = width * ROWS.index(part)
                module.in_proj_weight[first : first + width] += addition.matrix()
        for name, child in module.named_children():
            if isinstance(child, LoraLinear):
                setattr(module, name, merged(child))
    return model


def keep_in_evaluation(module: nn.Module) -> None:
    """Put `module` in evaluation mode, and keep it there when the model around it is trained."""

    def train(self: nn.Module, mode: bool = True) -> nn.Module:  # noqa: ARG001
        return nn.Module.train(self, mode=False)

    # On the object itself, where `train` of the module around it finds it.
    module.__dict__["train"] = types.MethodType(train, module)
    module.eval()


def freeze_batch_norm(model: nn.Module) -> int:
    """Keep the running statistics of batch norms, and normalise with them; return how many.

    Their scales and shifts still learn. A batch that is cut into pieces cannot have the statistics
    of the whole (gradient caching, Gao et al. 2021), and a frozen network should not move by them.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        keep_in_evaluation(norm)
    return len(norms)


def layer_rates(model: CLIP, layer_decay: float) -> dict[str, float]:
    """Return the factor on the learning rate of each parameter: γ^(L + 1 - l).

    Layer-wise decay (Clark et al. 2020, "ELECTRA", appendix; Bao et al. 2021, "BEiT"). Each tower
    has L blocks, l = 1 … L; embeddings, the stem and what precedes the blocks are l = 0; what
    follows them, the projections and the temperature are l = L + 1, factor 1.

    Args:
        layer_decay: γ in (0, 1].
    """
    towers = {
        "visual.": _blocks(model.visual, "visual."),
        "": _blocks(model.transformer, "transformer."),
    }
    rates = {}
    for name, _ in model.named_parameters():
        blocks = towers["visual." if name.startswith("visual.") else ""]
        above = len(blocks) + 1 - _depth(name, blocks)
        rates[name] = layer_decay**above
    return rates


HEADS = ("logit_scale", "ln_final.", "text_projection", "visual.ln_post.", "visual.proj")
"""How the parameters after the last block begin; of a ResNet also its attention pooling."""


def _depth(name: str, blocks: list[str]) -> int:
    """Return l of one parameter of a tower with these blocks, named with a dot at the end."""
    for layer, block in enumerate(blocks, start=1):
        if name.startswith(block):
            return layer
    return len(blocks) + 1 if name.startswith((*HEADS, "visual.attnpool.")) else 0


def _blocks(tower: nn.Module, prefix: str) -> list[str]:
    """Return the names of a tower's blocks from input to output."""
    return [
        f"{prefix}{name}."
        for name, module in tower.named_modules()
        if isinstance(module, Block | Bottleneck)
    ]


@dataclass(frozen=True, kw_only=True)
class WiseFtCurve:
    """What averages of old and new weights are worth."""

    alphas: tuple[float, ...]
    """Shares of the new weights, from 0 to 1."""
    scores: tuple[float, ...]
    """What `evaluate` returned for each."""
    best_alpha: float
    """Where the score is highest; of equal ones the smallest, closest to the old weights."""
    best_state: dict[str, Tensor]
    """The weights there."""


def wise_ft(
    initial_state: Mapping[str, Tensor],
    tuned_state: Mapping[str, Tensor],
    evaluate: Callable[[Mapping[str, Tensor]], float],
    steps: int,
) -> WiseFtCurve:
    """Score (1 - α) θ_0 + α θ_1 for `steps` values of α, and keep the best.

    Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", equation 1. The averages are
    taken in float32; running statistics of batch norms are averaged like weights; whole numbers
    are those of the new state. α = 0 and α = 1 are the two states exactly.

    Args:
        initial_state: θ_0, on any device.
        tuned_state: θ_1, with the same names and shapes.
        evaluate: larger is better; a score that is not a number is never the best.
        steps: at least 2.
    Raises:
        ValueError: the states are not of one network.
    """
    differing = sorted(
        name
        for name in initial_state.keys() | tuned_state.keys()
        if name not in initial_state
        or name not in tuned_state
        or initial_state[name].shape != tuned_state[name].shape
    )
    if differing:
        raise ValueError(f"the two states differ in the shape or presence of {differing[0]!r}")
    alphas = [index / (steps - 1) for index in range(steps)]
    scores: list[float] = []
    best, best_score, best_state = 0.0, -float("inf"), dict(initial_state)
    for alpha in alphas:
        state = _between(initial_state, tuned_state, alpha)
        scores.append(evaluate(state))
        if scores[-1] > best_score:
            best, best_score, best_state = alpha, scores[-1], state
    return WiseFtCurve(
        alphas=tuple(alphas), scores=tuple(scores), best_alpha=best, best_state=best_state
    )


@torch.no_grad()
def _between(
    initial_state: Mapping[str, Tensor], tuned_state: Mapping[str, Tensor], alpha: float
) -> dict[str, Tensor]:
    state = {}
    for name, tuned in tuned_state.items():
        if not tuned.is_floating_point():
            state[name] = tuned.clone()
            continue
        initial = initial_state[name].to(device=tuned.device)
        # lerp gives both ends exactly.
        state[name] = initial.float().lerp(tuned.float(), alpha).to(tuned.dtype)
    return state
