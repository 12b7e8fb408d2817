"""Boundary loss: probability times the signed distance to the true outline.

In: probabilities, float (B, N, H, W), in `Pixels`. Out: a loss of each image and class, (B, N).

Source: Kervadec et al., "Boundary loss for highly unbalanced segmentation", 2019, equation 5: the
mean over pixels of p · φ, where φ is the distance to the outline of the true region, negative
inside. It is lowest, and negative, for the true region itself. A mistake pushes the harder the
farther from the outline it is, which Dice and cross-entropy do not know.

The outline runs between pixels: φ is the distance to the nearest pixel of the other side, less half
a pixel. (The authors' code has whole pixels outside, and one less inside.)

Letters: B images, N classes, H, W pixels; K pairs of an image and a class with an outline in it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from unet_seg.distance import distance_transform
from unet_seg.pixels import Pixels


def boundary_by_class(pixels: Pixels, has_outline_BN: Tensor) -> Tensor:
    """Boundary loss of each image and class in pixels, (B, N); 0 for classes without an outline."""
    distance_BNHW = signed_distances(pixels, has_outline_BN)
    num_pixels_B1 = pixels.count_BN.sum(dim=1, keepdim=True).clamp_min(1)
    return pixels.sum_over_pixels(pixels.p_BNHW * distance_BNHW) / num_pixels_B1


def signed_distances(pixels: Pixels, wanted_BN: Tensor) -> Tensor:
    """φ of each wanted class, and 0 for the others: (B, N, H, W), dtype and device of the logits.

    Pixels that do not count belong to neither side. Computed on the CPU, wherever the logits are.
    """
    image_K, class_K = wanted_BN.cpu().nonzero(as_tuple=True)
    distance_BNHW = torch.zeros(pixels.logits_BNHW.shape, dtype=pixels.logits_BNHW.dtype)
    if len(image_K):
        inside_KHW = pixels.labels_BHW.cpu()[image_K] == class_K[:, None, None]
        outside_KHW = ~inside_KHW
        if pixels.counted_BHW is not None:
            counted_KHW = pixels.counted_BHW.cpu()[image_K]
            inside_KHW, outside_KHW = inside_KHW & counted_KHW, outside_KHW & counted_KHW
        to_inside_KHW = distance_transform(inside_KHW.numpy()) - 0.5
        to_outside_KHW = distance_transform(outside_KHW.numpy()) - 0.5
        signed_KHW = np.where(inside_KHW.numpy(), -to_outside_KHW, to_inside_KHW)
        distance_BNHW[image_K, class_K] = torch.from_numpy(signed_KHW).to(distance_BNHW.dtype)
    return distance_BNHW.to(pixels.logits_BNHW.device)
