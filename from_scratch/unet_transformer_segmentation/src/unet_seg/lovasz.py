"""Lovász-softmax: the Jaccard loss (1 - IoU) extended from sets to probabilities.

In: probabilities, float (B, N, H, W), in `Pixels`. Out: a loss of each image and class, (B, N).

Source: Berman, Triki and Blaschko, "The Lovász-Softmax loss", 2018, Algorithm 1. With the errors
e = |g - p| of one class sorted from the largest, the loss is Σ_i e_i (J_i - J_{i-1}), where J_i is
the Jaccard loss of a prediction that is wrong on exactly the i worst pixels. Where all
probabilities are 0 or 1 it is 1 - IoU; in between it is linear in the sorted errors.

Letters: B images, N classes, H, W pixels; K pairs of an image and a class present in it; P the
pixels of an image in one line.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unet_seg.pixels import Pixels


def lovasz_by_class(pixels: Pixels, present_BN: Tensor) -> Tensor:
    """Lovász loss of each image and class, (B, N) in [0, 1]; 0 where the class is not present.

    Only present classes are sorted: sorting takes most of the time.
    """
    image_K, class_K = present_BN.nonzero(as_tuple=True)
    is_class_KP = (pixels.labels_BHW[image_K] == class_K[:, None, None]).flatten(1)
    p_KP = pixels.p_BNHW[image_K, class_K].flatten(1)
    error_KP = torch.where(is_class_KP, 1 - p_KP, p_KP)
    if pixels.counted_BHW is not None:
        # An error of 0 sorts behind the others and adds 0: as if the pixel were not there.
        counted_KP = pixels.counted_BHW[image_K].flatten(1)
        error_KP = error_KP * counted_KP
        is_class_KP = is_class_KP & counted_KP
    sorted_KP, order_KP = error_KP.sort(dim=1, descending=True)
    steps_KP = jaccard_steps(is_class_KP.gather(1, order_KP), sorted_KP.dtype)
    loss_BN = sorted_KP.new_zeros(present_BN.shape)
    return loss_BN.index_put((image_K, class_K), (sorted_KP * steps_KP).sum(dim=1))


def jaccard_steps(is_class_KP: Tensor, dtype: torch.dtype) -> Tensor:
    """J_i - J_{i-1}, as the pixels of a row go wrong one after the other: bool -> float (K, P).

    J = 1 - I / U. Of the G pixels of the class, I = G - missed are still right; the union is
    U = G + alarms, with alarms = i - missed. If the next pixel is of the class, it is missed: I
    falls by one, and J grows by 1 / U. Any other is a false alarm: U rises by one to its new value,
    and J grows by I / (U - 1) - I / U = I / (U (U - 1)).
    Written so, no digits are lost to the difference of two almost equal J.
    """
    # Counted in whole numbers: exact for any image, and the same on every device.
    missed_KP = is_class_KP.cumsum(dim=1, dtype=torch.int32)
    size_K1 = missed_KP[:, -1:]
    wrong_P = torch.arange(1, is_class_KP.shape[1] + 1, device=is_class_KP.device)
    right_KP = (size_K1 - missed_KP).to(dtype)
    union_KP = (size_K1 + wrong_P.int() - missed_KP).to(dtype)
    return torch.where(is_class_KP, 1, right_KP / (union_KP - 1)) / union_KP
