"""Losses from scratch, and the table of their names.

In: logits, float (B, N, H, W), and target, int64 (B, H, W), with class ids 0..N-1 and 255 where a
pixel does not count. Out: a scalar to minimise.

Every loss is the **mean over images of a loss of each image**, taken over the image's own counted
pixels (`pixels.py`). So an image weighs the same whatever its size, padding changes nothing, and
the losses of parts of a batch, weighted by their numbers of images, add up to the loss of the whole
batch. An image without any counted pixel has loss 0.

N = 1 is binary: the logit z stands for background and foreground with the logits (0, z), ids are
0 and 1, and dice, tversky, lovasz and boundary look at the foreground only.

Which classes an image's loss is the mean of, so what a class absent from the image means:

| loss | classes |
| --- | --- |
| dice, tversky | in the target, or predicted on some pixel: a false alarm costs about 1 |
| lovasz | in the target |
| boundary | in the target, but not all of it: only they have an outline |
| bce | all |
| ce, focal | a mean over pixels, not over classes |

Where no class is left, the image's loss is 0. Class weights weigh these means; in ce and focal they
weigh pixels by their true class. Weights are divided by their sum, so only their ratios matter.

Letters: B images, N classes, H, W pixels.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from unet_seg.boundary import boundary_by_class
from unet_seg.config import LossConfig
from unet_seg.data.sample import IGNORE
from unet_seg.errors import SegError
from unet_seg.lovasz import lovasz_by_class
from unet_seg.pixels import Pixels, read_pixels

Loss: TypeAlias = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""logits, target and valid (or None) -> scalar: what `build_loss` makes."""


def ce(pixels: Pixels) -> Tensor:
    """Cross-entropy -log p of the true class, in [0, inf); one image's is `F.cross_entropy`."""
    return -pixels.mean_over_pixels(pixels.own_log_p_BHW)


def focal(pixels: Pixels, *, gamma: float = 2.0) -> Tensor:
    """Cross-entropy times (1 - p)^gamma, which fades pixels already right; gamma 0 is `ce`.

    Lin et al., "Focal loss for dense object detection", 2017, equation 4, with softmax; their
    alpha are class weights here.
    """
    own_log_p_BHW = pixels.own_log_p_BHW
    # The slope of x^gamma at 0 is infinite for gamma < 1, and infinity times 0 is NaN.
    miss_BHW = (-own_log_p_BHW.expm1()).clamp_min(torch.finfo(own_log_p_BHW.dtype).tiny)
    return -pixels.mean_over_pixels(miss_BHW.pow(gamma) * own_log_p_BHW)


def bce(pixels: Pixels) -> Tensor:
    """Binary cross-entropy of each class against the rest: one sigmoid a class; N = 1: as `ce`."""
    if pixels.binary:
        return ce(pixels)
    classes = torch.arange(pixels.logits_BNHW.shape[1], device=pixels.labels_BHW.device)
    is_class_BNHW = pixels.labels_BHW[:, None] == classes[:, None, None]
    loss_BNHW = F.binary_cross_entropy_with_logits(
        pixels.logits_BNHW, is_class_BNHW.to(pixels.logits_BNHW), reduction="none"
    )
    num_pixels_B1 = pixels.count_BN.sum(dim=1, keepdim=True)
    loss_BN = pixels.sum_over_pixels(loss_BNHW) / num_pixels_B1.clamp_min(1)
    return pixels.mean_over_classes(loss_BN, torch.ones_like(loss_BN))


def tversky(
    pixels: Pixels, *, alpha: float = 0.3, beta: float = 0.7, smooth: float = 1e-5
) -> Tensor:
    """1 - (TP + s) / (TP + alpha FP + beta FN + s), counted in probabilities; in [0, 1].

    Salehi et al., "Tversky loss function for image segmentation", 2017, equation 3. A larger beta
    favours finding all of a region over finding nothing else. `smooth` is s, in pixels: it keeps
    the loss of a false alarm below 1 and its gradient above 0, so with a tiny s such a class has
    nearly no gradient (a cross-entropy beside it has).
    """
    own_p_BHW = pixels.own_log_p_BHW.exp()
    loss_BN = _tversky_by_class(pixels, pixels.p_BNHW, own_p_BHW, alpha, beta, smooth)
    return pixels.mean_over_classes(loss_BN, (pixels.count_BN > 0) | pixels.predicted_BN)


def dice(pixels: Pixels, *, smooth: float = 1e-5) -> Tensor:
    """Soft Dice 1 - (2 Σpg + s) / (Σp + Σg + s), in [0, 1]; it is `tversky` at 1/2 and 1/2.

    Milletari et al., "V-Net", 2016, with plain sums below the line as in nnU-Net. `smooth` is s;
    what it does for absent classes is said at `tversky`.
    """
    return tversky(pixels, alpha=0.5, beta=0.5, smooth=smooth / 2)


def _tversky_by_class(
    pixels: Pixels,
    p_BNHW: Tensor,
    own_p_BHW: Tensor,
    alpha: float,
    beta: float,
    smooth: float,
) -> Tensor:
    """Tversky loss of each image and class, (B, N), finite for absent ones too."""
    tp_BN = pixels.sum_by_class(own_p_BHW)
    fp_BN = pixels.sum_over_pixels(p_BNHW) - tp_BN
    fn_BN = pixels.count_BN - tp_BN
    below_BN = tp_BN + alpha * fp_BN + beta * fn_BN + smooth
    return 1 - (tp_BN + smooth) / torch.where(below_BN > 0, below_BN, 1)


def lovasz(pixels: Pixels) -> Tensor:
    """Lovász-softmax, the extension of 1 - IoU to probabilities (`lovasz.py`); in [0, 1]."""
    present_BN = pixels.count_BN > 0
    return pixels.mean_over_classes(lovasz_by_class(pixels, present_BN), present_BN)


def boundary(pixels: Pixels) -> Tensor:
    """Mean of probability times signed distance to the outline, in pixels (`boundary.py`).

    Negative for a good prediction. Meant to be added to a region loss: alone, it gives a pixel next
    to the outline hardly any gradient.
    """
    count_BN = pixels.count_BN
    has_outline_BN = (count_BN > 0) & (count_BN < count_BN.sum(dim=1, keepdim=True))
    return pixels.mean_over_classes(boundary_by_class(pixels, has_outline_BN), has_outline_BN)


def bce_dice(pixels: Pixels, *, smooth: float = 1e-5) -> Tensor:
    """`bce` + `dice` of the same sigmoids (for N = 1 of the same two-class softmax)."""
    if pixels.binary:
        return ce(pixels) + dice(pixels, smooth=smooth)
    p_BNHW = pixels.logits_BNHW.sigmoid()
    own_p_BHW = pixels.of_own_class(p_BNHW)
    loss_BN = _tversky_by_class(pixels, p_BNHW, own_p_BHW, 0.5, 0.5, smooth / 2)
    present_BN = (pixels.count_BN > 0) | pixels.predicted_BN
    return bce(pixels) + pixels.mean_over_classes(loss_BN, present_BN)


def ce_dice(pixels: Pixels, *, smooth: float = 1e-5) -> Tensor:
    """`ce` + `dice`: smooth gradients everywhere, and small classes count as much as large."""
    return ce(pixels) + dice(pixels, smooth=smooth)


def ce_lovasz(pixels: Pixels) -> Tensor:
    """`ce` + `lovasz`: the measure itself, with a gradient from the start."""
    return ce(pixels) + lovasz(pixels)


def ce_dice_boundary(
    pixels: Pixels, *, smooth: float = 1e-5, boundary_weight: float = 0.01
) -> Tensor:
    """`ce` + `dice` + boundary_weight times `boundary`."""
    return ce_dice(pixels, smooth=smooth) + boundary_weight * boundary(pixels)


FORMULAS: Mapping[str, Callable[..., Tensor]] = {
    "ce": ce,
    "bce": bce,
    "focal": focal,
    "dice": dice,
    "tversky": tversky,
    "lovasz": lovasz,
    "boundary": boundary,
    "ce_dice": ce_dice,
    "bce_dice": bce_dice,
    "ce_lovasz": ce_lovasz,
    "ce_dice_boundary": ce_dice_boundary,
}
"""Name -> formula (`Pixels`, options) -> the loss of each image, (B,)."""


def mean_over_images(formula: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Make a loss on logits and target of a formula on `Pixels`.

    Returns:
        loss(logits, target, *, valid=None, class_weights=None, ignore_label=255, **options)
        -> scalar, float32 (float64 for float64 logits). Arguments and errors: `read_pixels`.
    """

    def loss(
        logits: Tensor,
        target: Tensor,
        *,
        valid: Tensor | None = None,
        class_weights: Tensor | None = None,
        ignore_label: int = IGNORE,
        **options: float,
    ) -> Tensor:
        pixels = read_pixels(
            logits, target, valid=valid, class_weights=class_weights, ignore_label=ignore_label
        )
        return formula(pixels, **options).mean()

    loss.__name__, loss.__doc__ = formula.__name__, formula.__doc__
    return loss


LOSSES: Mapping[str, Callable[..., Tensor]] = {
    name: mean_over_images(formula) for name, formula in FORMULAS.items()
}
"""Name -> loss(logits, target, *, valid, class_weights, ignore_label, options) -> scalar."""


def build_loss(config: LossConfig, num_classes: int) -> Loss:
    """The configured loss as a function of logits, target and valid.

    Args:
        num_classes: N of the logits, which the class weights must agree with.
    Raises:
        SegError: an unknown name or option, an option below 0, weights of another number.
    """
    if config.name not in LOSSES:
        near = get_close_matches(config.name, LOSSES, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise SegError(
            f"loss.name={config.name!r} is unknown.{hint} Choose one of: {', '.join(LOSSES)}."
        )
    _check_options(config)
    weights = config.class_weights
    if weights is not None and len(weights) != max(num_classes, 2):
        raise SegError(
            f"loss.class_weights has {len(weights)} numbers, expected {max(num_classes, 2)}: one "
            "for each class, the background included."
        )
    weights_N = None if weights is None else torch.tensor(weights)
    function, options = LOSSES[config.name], dict(config.options)

    def loss(logits: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        return function(logits, target, valid=valid, class_weights=weights_N, **options)

    return loss


def _check_options(config: LossConfig) -> None:
    parameters = inspect.signature(FORMULAS[config.name]).parameters
    allowed = [name for name in parameters if name != "pixels"]
    for name, value in config.options.items():
        if name not in allowed:
            known = f"It has {', '.join(allowed)}." if allowed else "It has none; leave them out."
            raise SegError(f"loss.options.{name}: {config.name} has no such option. {known}")
        if not 0 <= value < math.inf:
            raise SegError(f"loss.options.{name}={value:g} must be a number >= 0.")


def supervised(
    loss: Loss, all_logits: Sequence[Tensor], target: Tensor, valid: Tensor | None = None
) -> Tensor:
    """Deep supervision: the loss at each resolution, each weighing half of the one before it.

    Weights are 1, 1/2, 1/4 ... divided by their sum, as in nnU-Net. At a coarser resolution each
    pixel is compared with the target nearest to its centre.

    Args:
        all_logits: (B, N, h, w) each, from the finest to the coarsest; one is plain supervision.
        target: (B, H, W) int64.
        valid: (B, H, W) bool or None.
    Raises:
        SegError: no logits, and what the loss raises.
    """
    if not all_logits:
        raise SegError("all_logits is empty; give a list with at least the finest logits.")
    shares = [0.5**level for level in range(len(all_logits))]
    losses = []
    for logits in all_logits:
        size = (logits.shape[-2], logits.shape[-1])
        small_valid = None if valid is None else _nearest(valid, size)
        losses.append(loss(logits, _nearest(target, size), small_valid))
    weighted = [share * part for share, part in zip(shares, losses, strict=True)]
    return torch.stack(weighted).sum() / sum(shares)


def _nearest(mask_BHW: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (B, H, W) of any dtype to (B, h, w): the pixel under the centre of each new one."""
    for axis, new in zip((-2, -1), size, strict=True):
        old = mask_BHW.shape[axis]
        if new != old:
            centres = (2 * torch.arange(new, device=mask_BHW.device) + 1) * old
            mask_BHW = mask_BHW.index_select(axis, centres // (2 * new))
    return mask_BHW
