"""Segmentation losses against segmentation_models_pytorch, values and gradients.

Stored numbers run in the ordinary suite; with `-m peers` numbers made just now from another seed.
Ours are means over images; the reference is asked one image at a time. Where its rule differs and
ours can be turned into it, the test does so in the open:

- absent classes: its Dice, Tversky and Jaccard give a class absent from the target the loss 0, also
  where it is predicted, and divide by all classes. Ours leaves out classes that are in neither, and
  a false alarm costs 1 (`smooth` 0);
- smooth: it is added to TP in its formula, so its 3 is our 6 in `dice` and our 3 in `tversky`;
- ignored pixels: its cross-entropies divide by all pixels, ours by the counted ones;
- multiclass focal: it takes each class against the rest with a sigmoid, ours is softmax; ours on
  one channel at a time is the same. Its alpha multiplies, our class weights are normalised.

Not comparable: Dice of a batch (it sums over the batch first) and the binary Lovász loss (its is
the hinge on logits, ours Lovász-softmax of the sigmoid, which it has as well, but does not offer).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from facts import read_facts
from seg_losses_cases import ALPHA, SMOOTH, WEIGHTS, cases, observe
from seg_metrics_cases import IGNORE, NUM_CLASSES
from torch import Tensor
from unet_seg.losses import LOSSES

HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".venv-peers" / "bin" / "python"
LIVE_SEED = 1
MULTICLASS = ("all classes", "ignored pixels", "absent classes")
BINARY = ("binary", "binary ignored pixels", "binary without foreground")
FLOAT64 = {torch.float64: 1e-12, torch.float32: 1e-6}
FLOAT32 = {torch.float64: 1e-6, torch.float32: 2e-6}
"""Tolerances by the precision of the reference and, inside, of ours."""


@pytest.fixture(scope="module", params=["golden", pytest.param("live", marks=pytest.mark.peers)])
def facts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """What the reference computed: "golden" from the stored file, "live" just now."""
    folder = tmp_path_factory.mktemp("live")
    return read_facts(request.param, "seg_losses", folder, seed=LIVE_SEED)


def per_image(name: str, logits: Tensor, target: Tensor, **options: Any) -> Tensor:
    """Our loss of each image alone, (B,)."""
    pairs = zip(logits.split(1), target.split(1), strict=True)
    return torch.stack([LOSSES[name](*pair, **options) for pair in pairs])


def check(
    facts: dict[str, Any],
    case: str,
    peer: str,
    ours: Callable[[Tensor, Tensor], Tensor],
    tolerances: dict[torch.dtype, float] = FLOAT64,
) -> None:
    """`ours` (logits, target) -> (B,) equals the reference's losses and their gradient."""
    logits, target = cases(facts["made with"]["seed"])[case]
    theirs = facts["cases"][case][peer]
    for dtype, tolerance in tolerances.items():
        given = logits.to(dtype).requires_grad_()
        found = observe(ours(given, target), given)
        assert found["losses"] == pytest.approx(theirs["losses"], abs=tolerance, rel=tolerance)
        assert found["gradient"] == pytest.approx(theirs["gradient"], abs=tolerance, rel=tolerance)


def share_counted(target: Tensor) -> Tensor:
    return (target != IGNORE).double().mean(dim=(1, 2))


def classes_of(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Of each image, the number of foreground or of all classes in the target, and predicted by
    mistake."""
    binary = logits.shape[1] == 1
    predicted = (logits[:, 0] > 0).long() if binary else logits.argmax(dim=1)
    ids = torch.arange(1, 2) if binary else torch.arange(NUM_CLASSES)
    found = [
        [((mask == c) & (target != IGNORE)).any(dim=2).any(dim=1) for c in ids]
        for mask in (target, predicted)
    ]
    in_target, in_prediction = (torch.stack(each, dim=1) for each in found)
    return in_target.sum(dim=1), (in_prediction & ~in_target).sum(dim=1)


def as_theirs(name: str, **options: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """Our mean over present classes turned into their sum over target classes by all classes."""

    def converted(logits: Tensor, target: Tensor) -> Tensor:
        in_target, alarms = classes_of(logits, target)
        losses = per_image(name, logits, target, **options)
        num_classes = 1 if logits.shape[1] == 1 else NUM_CLASSES
        return (losses * (in_target + alarms) - alarms) / num_classes

    return converted


@pytest.mark.parametrize("case", [*MULTICLASS, *BINARY])
def test_dice_and_tversky(facts: dict[str, Any], case: str):
    check(facts, case, "dice", as_theirs("dice", smooth=0.0))
    check(facts, case, "tversky", as_theirs("tversky", smooth=0.0))


@pytest.mark.parametrize("case", MULTICLASS)
def test_jaccard_is_tversky_at_one(facts: dict[str, Any], case: str):
    check(facts, case, "jaccard", as_theirs("tversky", alpha=1.0, beta=1.0, smooth=0.0))


@pytest.mark.parametrize("case", ["all classes", "ignored pixels", "binary"])
def test_smooth_and_class_weights(facts: dict[str, Any], case: str):
    def dice(logits: Tensor, target: Tensor) -> Tensor:
        return per_image("dice", logits, target, smooth=2 * SMOOTH)

    def weighted(logits: Tensor, target: Tensor) -> Tensor:
        weights = torch.tensor(WEIGHTS)
        return per_image("dice", logits, target, class_weights=weights, smooth=0.0)

    check(facts, case, "dice smooth", dice)
    if case in MULTICLASS:
        check(facts, case, "dice weighted", weighted)


@pytest.mark.parametrize("case", [*MULTICLASS, *BINARY])
def test_cross_entropies(facts: dict[str, Any], case: str):
    for name in ("ce", "bce") if case in MULTICLASS else ("bce",):

        def over_all_pixels(logits: Tensor, target: Tensor, name: str = name) -> Tensor:
            return per_image(name, logits, target) * share_counted(target)

        check(facts, case, name, over_all_pixels)


@pytest.mark.parametrize("case", MULTICLASS)
def test_lovasz_softmax(facts: dict[str, Any], case: str):
    check(facts, case, "lovasz", lambda *pair: per_image("lovasz", *pair), FLOAT32)


@pytest.mark.parametrize("case", BINARY[:2])
def test_lovasz_of_a_sigmoid(facts: dict[str, Any], case: str):
    check(facts, case, "lovasz sigmoid", lambda *pair: per_image("lovasz", *pair), FLOAT32)


@pytest.mark.parametrize("case", BINARY)
def test_binary_focal(facts: dict[str, Any], case: str):
    def weighted(logits: Tensor, target: Tensor) -> Tensor:
        """Our weighted mean times the mean of the weights is the plain mean of weighted terms."""
        weights = torch.tensor([1 - ALPHA, ALPHA], dtype=torch.float64)
        counted = target != IGNORE
        total = (weights[target.where(counted, 0)] * counted).sum(dim=(1, 2))
        losses = per_image("focal", logits, target, class_weights=weights)
        return losses * total / counted.sum(dim=(1, 2))

    check(facts, case, "focal", lambda *pair: per_image("focal", *pair))
    check(facts, case, "focal alpha", weighted)


@pytest.mark.parametrize("case", MULTICLASS)
def test_multiclass_focal_is_ours_on_each_channel(facts: dict[str, Any], case: str):
    def one_vs_rest(logits: Tensor, target: Tensor) -> Tensor:
        each = [
            per_image("focal", logits[:, c : c + 1], (target == c).long().where(target != 255, 255))
            for c in range(NUM_CLASSES)
        ]
        return torch.stack(each).mean(dim=0)

    check(facts, case, "focal", one_vs_rest)


def test_what_is_not_comparable_differs(facts: dict[str, Any]):
    all_cases = cases(facts["made with"]["seed"])
    dice = LOSSES["dice"](*all_cases["all classes"], smooth=0.0).item()
    assert abs(dice - facts["dice of the batch"]) > 1e-3
    hinge = torch.tensor(facts["cases"]["binary"]["lovasz hinge"]["losses"])
    assert (per_image("lovasz", *all_cases["binary"]) - hinge).abs().min() > 0.1


def test_the_cases_hold_what_they_are_for(facts: dict[str, Any]):
    all_cases = cases(facts["made with"]["seed"])
    for case in ("all classes", "ignored pixels"):
        assert classes_of(*all_cases[case])[0].tolist() == [NUM_CLASSES] * 3
    in_target, alarms = classes_of(*all_cases["absent classes"])
    assert in_target.tolist() == [3, 1, 4]
    assert alarms.tolist() == [1, 2, 0]  # image 1 predicts two classes by mistake, and one nowhere
    assert classes_of(*all_cases["binary without foreground"])[0].tolist() == [0, 1, 1]
    assert 0.1 < 1 - share_counted(all_cases["ignored pixels"][1]).mean() < 0.5
