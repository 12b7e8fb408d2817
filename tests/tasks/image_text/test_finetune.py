"""What each method trains, layer-wise rates, and averages of old and new weights."""

import copy
import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from maquette.errors import UsageError
from maquette.nn.lora import LoraLinear
from maquette.recipe.image_text import Finetune
from maquette.tasks.image_text.architectures import ClipConfig
from maquette.tasks.image_text.clip import CLIP
from maquette.tasks.image_text.finetune import (
    freeze_batch_norm,
    layer_rates,
    merge,
    prepare_model,
    wise_ft,
)
from maquette.training.optim import Optimizer, decayed_parameters

TEXT: dict[str, Any] = {
    "text_width": 16,
    "text_layers": 2,
    "text_heads": 2,
    "vocab_size": 20,
    "context_length": 6,
}
VIT = ClipConfig(
    embed_dim=12,
    image_size=8,
    patch_size=4,
    vision_width=8,
    vision_layers=3,
    vision_heads=2,
    **TEXT,
)
RESNET = ClipConfig(
    embed_dim=12,
    image_size=32,
    vision="resnet",
    vision_width=8,
    vision_layers=(1, 1, 1, 2),
    vision_heads=4,
    **TEXT,
)
EVERY = ("q", "k", "v", "out", "fc", "proj")


def clip(config: ClipConfig = VIT, **options: Any) -> CLIP:
    torch.manual_seed(0)
    return CLIP(config, **options)


def pairs(model: CLIP, number: int = 3) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    side = model.config.image_size
    ids = torch.randint(1, 18, (number, 5))
    ids[:, -1] = 19
    return torch.randn(number, 3, side, side), ids


def lora(**settings: Any) -> Finetune:
    return Finetune(method="lora", **({"lora_rank": 2, "lora_targets": EVERY} | settings))


def disturb(model: CLIP) -> None:
    """Give every addition values of its own, of a size that training gives."""
    torch.manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".low_rank." in name and name.endswith(".up"):
                parameter.normal_(std=0.02)


def trainable(model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("method", ["full", "flyp"])
def test_full_and_flyp_train_everything(method: str) -> None:
    model = clip()
    report = prepare_model(model, Finetune.model_validate({"method": method}))
    total = sum(p.numel() for p in model.parameters())
    assert report.trainable == total
    assert report.frozen == 0
    assert report.lines == (
        f"finetune: {method}: all weights are trained",
        f"finetune: {total:,} weights are trained (100.0%), 0 are frozen",
    )


@pytest.mark.parametrize("config", [VIT, RESNET])
def test_lit_locks_the_image_tower(config: ClipConfig) -> None:
    model = clip(config)
    report = prepare_model(model, Finetune(method="lit"))
    before = {name: t.clone() for name, t in model.visual.state_dict().items()}
    model.train()
    image_features, text_features = model(*pairs(model))
    (image_features * text_features).sum().backward()

    assert report.lines[0] == (
        "finetune: lit: the image tower is locked, the text tower is trained"
    )
    assert report.frozen == sum(p.numel() for p in model.visual.parameters())
    assert not image_features.requires_grad
    assert all(p.grad is None for p in model.visual.parameters())
    assert model.transformer.training
    assert not any(module.training for module in model.visual.modules())
    assert all(torch.equal(t, before[name]) for name, t in model.visual.state_dict().items())
    assert not any(name.startswith("visual.") for name in trainable(model))
    assert "logit_scale" in trainable(model)


def test_a_copy_of_a_locked_tower_is_locked_too_and_apart() -> None:
    model = clip(RESNET)
    prepare_model(model, Finetune(method="lit"))
    other = copy.deepcopy(model)
    model.visual.__dict__.pop("train")
    model.train()
    other.train()
    assert model.visual.training
    assert not other.visual.training


@pytest.mark.parametrize("config", [VIT, RESNET])
def test_lora_starts_with_the_same_outputs_bit_for_bit(config: ClipConfig) -> None:
    model = clip(config).eval()
    batch = pairs(model)
    expected = model(*batch)
    prepare_model(model, lora())
    model.train()  # no dropout, and norms stay as they are
    for mine, other in zip(model(*batch), expected, strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize(
    ("config", "targets", "expected"),
    [
        (VIT, ("q", "v"), 2 * 5),
        (VIT, EVERY, 6 * 5),
        (RESNET, ("q", "v"), 2 * 2 + 2),
        (RESNET, EVERY, 6 * 2 + 4),
        (RESNET, ("fc",), 2),
    ],
)
def test_lora_trains_its_additions_and_the_temperature(
    config: ClipConfig, targets: tuple[str, ...], expected: int
) -> None:
    model = clip(config)
    before = set(model.state_dict())
    report = prepare_model(model, lora(lora_targets=targets))
    names = trainable(model)
    assert names - {"logit_scale"} == {name for name in model.state_dict() if "low_rank" in name}
    assert len(names) == 1 + 2 * expected
    assert before < set(model.state_dict())
    assert report.trainable == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert report.lines[0] == (
        f"finetune: lora: rank 2 is added to {expected} matrices ({', '.join(targets)})"
    )


def test_lora_on_rows_has_the_gradients_of_the_whole_matrix() -> None:
    """∂L/∂B = α/r ∂L/∂W Aᵀ and ∂L/∂A = α/r Bᵀ ∂L/∂W, for the rows of q, k or v."""
    model, whole = clip().double(), clip().double()
    prepare_model(model, lora(lora_alpha=6.0))
    disturb(model)
    whole.load_state_dict(merge(copy.deepcopy(model)).state_dict())
    pixels, ids = pairs(model)
    for network in (model, whole):
        images, texts = network(pixels.double(), ids)
        (images[:1] * texts).sum().backward()

    merged_blocks = [*whole.visual.transformer.resblocks, *whole.transformer.resblocks]  # type: ignore[union-attr, misc]
    blocks = [*model.visual.transformer.resblocks, *model.transformer.resblocks]  # type: ignore[union-attr, misc]
    for block, merged_block in zip(blocks, merged_blocks, strict=True):
        for place, part in enumerate("qkv"):
            added = block.attn.low_rank[part]
            width = added.up.shape[0]
            gradient = merged_block.attn.in_proj_weight.grad[place * width : (place + 1) * width]
            torch.testing.assert_close(
                added.up.grad, 3 * gradient @ added.down.T, rtol=0, atol=1e-11
            )
            torch.testing.assert_close(
                added.down.grad, 3 * added.up.T @ gradient, rtol=0, atol=1e-11
            )


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-6), (torch.float64, 1e-13)])
@pytest.mark.parametrize("config", [VIT, RESNET])
def test_merging_leaves_a_plain_model_with_the_same_outputs(
    config: ClipConfig, dtype: torch.dtype, close: float
) -> None:
    model = clip(config).to(dtype)
    keys = list(model.state_dict())
    prepare_model(model, lora())
    disturb(model)
    model.eval()
    pixels, ids = pairs(model)
    batch = pixels.to(dtype), ids
    expected = model(*batch)
    assert merge(model) is model
    assert list(model.state_dict()) == keys
    assert not any(isinstance(module, LoraLinear) for module in model.modules())
    for mine, other in zip(model(*batch), expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=close)
    plain = clip(config).to(dtype)
    plain.load_state_dict(model.state_dict())
    for mine, other in zip(plain.eval()(*batch), model(*batch), strict=True):
        assert torch.equal(mine, other)


def test_merging_a_plain_model_changes_nothing() -> None:
    model = clip()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    merge(model)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


def test_additions_change_the_outputs() -> None:
    model = clip()
    batch = pairs(model)
    before = model(*batch)
    prepare_model(model, lora(lora_targets=("q",)))
    disturb(model)
    for mine, other in zip(model(*batch), before, strict=True):
        assert not torch.allclose(mine, other, atol=1e-4)


def test_lora_learns_with_activation_checkpointing_and_dropout_as_without() -> None:
    gradients = []
    for checkpointing in (False, True):
        model = clip(activation_checkpointing=checkpointing)
        prepare_model(model, lora(lora_dropout=0.3))
        disturb(model)
        torch.manual_seed(5)
        images, texts = model(*pairs(model))
        (images * texts).sum().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name])


def test_lora_under_autocast() -> None:
    model = clip()
    prepare_model(model, lora())
    disturb(model)
    expected = model(*pairs(model))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(*pairs(model))
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine.float(), other, rtol=0, atol=0.1)


def test_dropout_draws_in_training_only() -> None:
    model = clip()
    prepare_model(model, lora(lora_dropout=0.5))
    disturb(model)
    batch = pairs(model)
    assert not torch.equal(model(*batch)[0], model(*batch)[0])
    model.eval()
    assert torch.equal(model(*batch)[0], model(*batch)[0])


def test_new_tokens_are_learned_beside_the_additions() -> None:
    model = clip()
    report = prepare_model(model, lora(), new_vocabulary=True)
    assert "token_embedding.weight" in trainable(model)
    assert report.lines[0].endswith("; the embeddings of the new tokens are trained")


def test_a_rank_above_the_network_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        prepare_model(clip(), lora(lora_rank=9))
    assert str(caught.value) == (
        "finetune.lora_rank is 9, but the narrowest matrix of this network is 8 wide, where a rank "
        "of 8 is the whole matrix; use finetune.lora_rank=1, or method: full."
    )


def test_lora_without_targets_is_refused() -> None:
    with pytest.raises(UsageError, match=r"finetune\.lora_targets names no layer"):
        prepare_model(clip(), lora(lora_targets=()))


def test_frozen_batch_norms_make_pieces_equal_the_whole_and_keep_their_statistics() -> None:
    model = clip(RESNET).double()
    batch = pairs(model, number=6)[0].double()
    model.train()
    with torch.no_grad():
        model.visual(batch)  # statistics of its own
    before = {name: b.clone() for name, b in model.named_buffers()}
    number = freeze_batch_norm(model)
    model.train()
    whole = model.visual(batch)
    pieces = torch.cat([model.visual(piece) for piece in torch.split(batch, 2)])
    whole.sum().backward()

    assert number == len([m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]) > 0
    torch.testing.assert_close(pieces, whole, rtol=0, atol=1e-12)
    assert all(torch.equal(b, before[name]) for name, b in model.named_buffers())
    assert model.visual.bn1.weight.grad is not None  # type: ignore[union-attr]
    assert freeze_batch_norm(clip()) == 0


def test_layer_rates_of_a_transformer_fall_by_a_factor_from_layer_to_layer() -> None:
    rates = layer_rates(clip(), 0.5)
    assert rates.keys() == dict(clip().named_parameters()).keys()
    expected = {
        "logit_scale": 1,
        "text_projection": 1,
        "ln_final.weight": 1,
        "transformer.resblocks.1.attn.in_proj_weight": 1 / 2,
        "transformer.resblocks.0.mlp.c_fc.bias": 1 / 4,
        "positional_embedding": 1 / 8,
        "token_embedding.weight": 1 / 8,
        "visual.proj": 1,
        "visual.ln_post.bias": 1,
        "visual.transformer.resblocks.2.ln_1.weight": 1 / 2,
        "visual.transformer.resblocks.1.attn.out_proj.weight": 1 / 4,
        "visual.transformer.resblocks.0.mlp.c_proj.weight": 1 / 8,
        "visual.ln_pre.weight": 1 / 16,
        "visual.conv1.weight": 1 / 16,
        "visual.class_embedding": 1 / 16,
        "visual.positional_embedding": 1 / 16,
    }
    assert {name: rates[name] for name in expected} == expected


def test_layer_rates_of_a_resnet_count_its_blocks() -> None:
    rates = layer_rates(clip(RESNET), 0.5)
    expected = {
        "visual.attnpool.positional_embedding": 1,
        "visual.attnpool.q_proj.weight": 1,
        "visual.layer4.1.bn3.weight": 1 / 2,
        "visual.layer4.0.downsample.0.weight": 1 / 4,
        "visual.layer1.0.conv1.weight": 1 / 32,
        "visual.bn3.bias": 1 / 64,
        "visual.conv1.weight": 1 / 64,
    }
    assert {name: rates[name] for name in expected} == expected


def test_layer_rates_of_additions_are_those_of_their_blocks() -> None:
    model = clip()
    prepare_model(model, lora())
    rates = layer_rates(model, 0.5)
    assert rates["visual.transformer.resblocks.1.attn.low_rank.q.down"] == 1 / 4
    assert rates["transformer.resblocks.1.mlp.c_fc.low_rank.up"] == 1 / 2


def test_without_decay_all_rates_are_one() -> None:
    assert set(layer_rates(clip(), 1.0).values()) == {1.0}


def test_the_optimiser_takes_the_rates_and_decays_no_table_and_no_temperature() -> None:
    model = clip()
    Optimizer(model, name="adamw", weight_decay=0.1, rates=layer_rates(model, 0.5))
    matrices = {name for name, p in model.named_parameters() if p.ndim > 1}
    assert matrices - decayed_parameters(model) == {
        "positional_embedding",
        "token_embedding.weight",
        "visual.positional_embedding",
    }
    assert decayed_parameters(model) < matrices


def states() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    old = {"w": torch.tensor([0.1, 0.2]), "seen": torch.tensor(3)}
    return old, {"w": torch.tensor([0.7, -0.2]), "seen": torch.tensor(9)}


def test_wise_ft_finds_the_best_average() -> None:
    old, new = states()
    seen: list[Tensor] = []

    def score(state: Mapping[str, Tensor]) -> float:
        seen.append(state["w"])
        return -float((state["w"] - torch.tensor([0.28, 0.08])).square().sum())

    curve = wise_ft(old, new, score, 11)
    assert curve.alphas == tuple(pytest.approx(n / 10) for n in range(11))
    assert curve.best_alpha == pytest.approx(0.3)
    assert len(curve.scores) == 11
    assert max(curve.scores) == curve.scores[3]
    assert torch.equal(seen[0], old["w"])
    assert torch.equal(seen[-1], new["w"])
    torch.testing.assert_close(curve.best_state["w"], torch.tensor([0.28, 0.08]))
    assert curve.best_state["seen"] == 9


def test_of_equal_averages_the_one_nearest_the_old_weights_is_kept() -> None:
    curve = wise_ft(*states(), lambda state: float(state["w"][0] > 0.2), 4)
    assert curve.best_alpha == pytest.approx(1 / 3)


def test_a_score_that_is_no_number_is_never_the_best() -> None:
    scores = iter([0.1, math.nan, 0.3])
    curve = wise_ft(*states(), lambda _: next(scores), 3)
    assert curve.best_alpha == 1
    assert math.isnan(curve.scores[1])


def test_averages_are_taken_in_float32_and_returned_in_the_type_of_the_weights() -> None:
    old, new = {"w": torch.rand(1000).half()}, {"w": torch.rand(1000).half()}
    found: list[Tensor] = []

    def score(state: Mapping[str, Tensor]) -> float:
        found.append(state["w"])
        return 0.0

    wise_ft(old, new, score, 3)
    exact = ((old["w"].double() + new["w"].double()) / 2).half()
    assert torch.equal(found[1], exact)


def test_a_whole_model_goes_through_the_sweep_unharmed() -> None:
    old, model = clip(RESNET), clip(RESNET)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    tuned = {name: t.clone() for name, t in model.state_dict().items()}

    def score(state: Mapping[str, Tensor]) -> float:
        model.load_state_dict(state)
        return float(model.logit_scale.detach())

    curve = wise_ft(old.state_dict(), tuned, score, 3)
    assert curve.best_alpha == 1
    assert all(torch.equal(curve.best_state[name], t) for name, t in tuned.items())


@pytest.mark.parametrize("other", [{"w": torch.zeros(3)}, {"v": torch.zeros(2)}])
def test_states_of_two_networks_are_refused(other: dict[str, Tensor]) -> None:
    with pytest.raises(
        ValueError, match=r"the two states differ in the shape or presence of '[vw]'"
    ):
        wise_ft({"w": torch.zeros(2)}, other, lambda _: 0.0, 3)
