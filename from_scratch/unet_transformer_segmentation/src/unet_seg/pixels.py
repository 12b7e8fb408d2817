"""What every loss reads: checked logits and labels, and sums over the pixels that count.

In: logits, float (B, N, H, W); target, int64 (B, H, W) with class ids and the ignore label; valid,
bool (B, H, W), False on padding. Out: `Pixels`, and means of each image, (B,).

A pixel counts where its target is not the ignore label and `valid` is True. Other pixels change
neither a loss nor a gradient, whatever their logits are, NaN included.

Letters: B images, N classes, H, W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from unet_seg.contracts import check_dtype, check_shape
from unet_seg.data.sample import IGNORE
from unet_seg.errors import SegError

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True, eq=False)
class Pixels:
    """The arguments of a loss after `read_pixels`; what several formulas need is computed once."""

    logits_BNHW: Tensor
    """float32 or float64, 0 on pixels that do not count; N >= 2 (see `binary`)."""
    labels_BHW: Tensor
    """int64 in 0..N-1, 0 on pixels that do not count."""
    counted_BHW: Tensor | None
    """bool; None where every pixel is known to count, which spares half of the work."""
    weights_N: Tensor | None
    """Weight of each class, in the dtype of the logits; None where all weigh the same."""
    binary: bool
    """A single logit z was given and became (0, z), whose softmax is (1 - sigmoid(z), sigmoid(z));
    means over classes then look at the foreground only."""

    @cached_property
    def log_p_BNHW(self) -> Tensor:
        """Log-probability of each class."""
        return F.log_softmax(self.logits_BNHW, dim=1)

    @cached_property
    def p_BNHW(self) -> Tensor:
        """Probability of each class."""
        return self.log_p_BNHW.exp()

    @cached_property
    def own_log_p_BHW(self) -> Tensor:
        """Log-probability of each pixel's true class."""
        return self.of_own_class(self.log_p_BNHW)

    @cached_property
    def count_BN(self) -> Tensor:
        """Number of counted pixels of each true class, in the dtype of the logits."""
        return self.sum_by_class(self.logits_BNHW.new_ones(self.labels_BHW.shape))

    @cached_property
    def predicted_BN(self) -> Tensor:
        """bool: the class has the highest logit on some counted pixel; of equal ones, each has."""
        with torch.no_grad():
            behind_BNHW = self.logits_BNHW - self.logits_BNHW.amax(dim=1, keepdim=True)
            if self.counted_BHW is not None:
                behind_BNHW.masked_fill_(~self.counted_BHW[:, None], -1)
            return behind_BNHW.amax(dim=(2, 3)) >= 0

    def of_own_class(self, values_BNHW: Tensor) -> Tensor:
        """Of the N values of each pixel, the one of its true class: (B, H, W)."""
        return values_BNHW.gather(1, self.labels_BHW[:, None])[:, 0]

    def sum_by_class(self, values_BHW: Tensor) -> Tensor:
        """Sum over the counted pixels of each true class: (B, N).

        Rows of the image are summed first, then the rows: one float32 sum that grows pixel by
        pixel would lose a digit on an image of 256x256.
        """
        if self.counted_BHW is not None:
            values_BHW = values_BHW * self.counted_BHW
        num_images, num_classes, height, _ = self.logits_BNHW.shape
        rows_BHN = values_BHW.new_zeros(num_images, height, num_classes)
        return rows_BHN.scatter_add(2, self.labels_BHW, values_BHW).sum(dim=1)

    def sum_over_pixels(self, values_BNHW: Tensor) -> Tensor:
        """Sum over all counted pixels: (B, N)."""
        if self.counted_BHW is not None:
            values_BNHW = values_BNHW * self.counted_BHW[:, None]
        return values_BNHW.sum(dim=(2, 3))

    def mean_over_pixels(self, values_BHW: Tensor) -> Tensor:
        """Mean of each image over its counted pixels, weighted by their classes: (B,).

        The weights are divided by their sum in the image, as `F.cross_entropy` does in the batch.
        An image without any weight, such as one that is ignored entirely, has mean 0.
        """
        if self.weights_N is None and self.counted_BHW is None:
            return values_BHW.mean(dim=(1, 2))
        weight_BHW = torch.ones_like(values_BHW)
        if self.weights_N is not None:
            weight_BHW = self.weights_N[self.labels_BHW]
        if self.counted_BHW is not None:
            weight_BHW = weight_BHW * self.counted_BHW
        return _ratio((values_BHW * weight_BHW).sum(dim=(1, 2)), weight_BHW.sum(dim=(1, 2)))

    def mean_over_classes(self, values_BN: Tensor, present_BN: Tensor) -> Tensor:
        """Weighted mean of each image over the classes marked as present: (B,); 0 without any."""
        weight_BN = present_BN.to(values_BN)
        if self.weights_N is not None:
            weight_BN = weight_BN * self.weights_N
        if self.binary:
            values_BN, weight_BN = values_BN[:, 1:], weight_BN[:, 1:]
        return _ratio((values_BN * weight_BN).sum(dim=1), weight_BN.sum(dim=1))


def _ratio(total_B: Tensor, weight_B: Tensor) -> Tensor:
    """total / weight, or the total, which then is 0, where there is no weight."""
    return total_B / torch.where(weight_B > 0, weight_B, 1)


def read_pixels(
    logits: Tensor,
    target: Tensor,
    *,
    valid: Tensor | None = None,
    class_weights: Tensor | None = None,
    ignore_label: int = IGNORE,
) -> Pixels:
    """Check the arguments of a loss and bring them into one form.

    Half precision becomes float32: a sum over an image would overflow in float16 and stop growing
    at 256 in bfloat16. Class ids are checked on the CPU only, because reading values on another
    device would make every step wait for it; data sets check their masks when they load them.

    Args:
        logits: (B, N, H, W) float16, bfloat16, float32 or float64; N = 1 is binary.
        target: (B, H, W) int64: ids 0..N-1 (binary: 0 and 1) and the ignore label.
        valid: (B, H, W) bool, False where a pixel does not count.
        class_weights: (N,) float >= 0; binary: (2,), background and foreground.
        ignore_label: looked at before the ids, so a class of this id would never count.
    Raises:
        SegError: shapes or dtypes that do not fit, an empty batch, an id without a logit.
    """
    check_dtype(logits, *FLOATS, name="logits")
    check_dtype(target, torch.int64, name="target")
    sizes = check_shape(logits, "B N H W", name="logits")
    check_shape(target, "B H W", name="target", sizes=sizes)
    if logits.numel() == 0:
        raise SegError(
            f"logits has shape {tuple(logits.shape)}, which holds no pixel; a loss needs at least "
            "one image with one."
        )
    counts = target != ignore_label
    if valid is not None:
        check_dtype(valid, torch.bool, name="valid")
        check_shape(valid, "B H W", name="valid", sizes=sizes)
        counts = counts & valid
    on_cpu = logits.device.type == "cpu"
    counted_BHW = None if on_cpu and bool(counts.all()) else counts
    if logits.dtype != torch.float64:
        logits = logits.float()
    if counted_BHW is not None:
        # Not multiplied by 0 later, as 0 times NaN is NaN, in the gradient too.
        logits = logits.masked_fill(~counted_BHW[:, None], 0)
        target = target.masked_fill(~counted_BHW, 0)
    binary = sizes["N"] == 1
    if binary:
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    if on_cpu:
        _check_ids(target, logits.shape[1], binary=binary, ignore_label=ignore_label)
    weights_N = _check_weights(class_weights, logits)
    return Pixels(logits, target, counted_BHW, weights_N, binary)


def _check_ids(labels: Tensor, num_classes: int, *, binary: bool, ignore_label: int) -> None:
    smallest, largest = (int(x) for x in torch.aminmax(labels))
    if smallest >= 0 and largest < num_classes:
        return
    wrong = smallest if smallest < 0 else largest
    channels = "1 channel, read as two classes" if binary else f"{num_classes} channels"
    raise SegError(
        f"target holds the class id {wrong}, but logits has {channels}: ids 0 to "
        f"{num_classes - 1}. Give pixels that shall not count the ignore label {ignore_label}, or "
        "build the model with more classes."
    )


def _check_weights(class_weights: Tensor | None, logits: Tensor) -> Tensor | None:
    if class_weights is None:
        return None
    num_classes = logits.shape[1]
    if class_weights.shape != (num_classes,):
        raise SegError(
            f"class_weights has shape {tuple(class_weights.shape)}, expected ({num_classes},): "
            "one number for each class, the background included."
        )
    return class_weights.to(logits)
