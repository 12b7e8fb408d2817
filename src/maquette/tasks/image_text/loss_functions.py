"""The contrastive losses, written out from their papers; `losses.py` has the table of names.

Every loss takes image features (B, E), text features (B, E), both unnormalised and paired row by
row, and logit_scale, the *logarithm* of 1/temperature, (). Keyword arguments that all have:
`similarity` (similarity.py), `logit_bias`, () or None, added to all logits, and `groups`, (B, 2)
int64 or None: samples with an equal image group or an equal text group match each other too (only
unicl asks). The result is the mean over the batch, (), in float32 at least, under autocast too.

Below, s is the similarity, l = exp(logit_scale) s + logit_bias the logits, (B, B), with images as
rows; a loss is the mean of that from images to texts (rows) and from texts to images (columns).
A batch of one has no negatives: its loss is 0 with zero gradients, except SigLIP's, which judges
each pair alone.

Letters: B batch, E embedding width, T the teacher's embedding width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from maquette.tasks.image_text.similarity import Prepare, cosine, dot_products

_BLOCK = 1 << 20
"""SigLIP: logits of one block, 4 MiB in float32."""


def infonce(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: Tensor,
    *,
    similarity: Prepare = cosine,
    logit_bias: Tensor | None = None,
    groups: Tensor | None = None,  # noqa: ARG001 - one signature for all losses
    label_smoothing: float = 0.0,
) -> Tensor:
    """InfoNCE as CLIP has it (Radford et al. 2021, figure 3): which text is this image's?

    With `label_smoothing` ε the target is 1 - ε + ε/B for the match and ε/B for the others.
    """
    logits = pair_logits(image_features, text_features, logit_scale, similarity, logit_bias)
    matches = torch.arange(len(logits), device=logits.device)
    rows = F.cross_entropy(logits, matches, label_smoothing=label_smoothing)
    columns = F.cross_entropy(logits.T, matches, label_smoothing=label_smoothing)
    return (rows + columns) / 2


def siglip(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: Tensor,
    *,
    similarity: Prepare = cosine,
    logit_bias: Tensor | None = None,
    groups: Tensor | None = None,  # noqa: ARG001 - one signature for all losses
    bias: float | None = None,
    chunk: int | None = None,
) -> Tensor:
    """Sigmoid loss (Zhai et al. 2023, algorithm 1): does it match? -1/B Σ_ij ln σ(z_ij l_ij).

    z is 1 on the diagonal and -1 elsewhere. The sum runs over blocks of rows whose logits are
    computed again in the backward pass, so memory is one block and never B × B.

    Args:
        bias: a fixed bias, used where `logit_bias`, which it is the start of, is None.
        chunk: rows of a block; by default as many as make 4 MiB of logits.
    """
    if logit_bias is None and bias is not None:
        logit_bias = torch.tensor(bias, device=image_features.device)
    images, texts = _prepared(image_features, text_features, similarity)
    size = len(images)
    rows = max(1, _BLOCK // size) if chunk is None else chunk
    # One block keeps its logits: computing them again would save nothing.
    block = _siglip_block if rows >= size or not torch.is_grad_enabled() else _forgetting_block
    total = images.new_zeros(())
    for first in range(0, size, rows):
        total = total + block(images[first : first + rows], texts, logit_scale, logit_bias, first)
    return total / size


def _forgetting_block(
    images: Tensor, texts: Tensor, logit_scale: Tensor, logit_bias: Tensor | None, first: int
) -> Tensor:
    """`_siglip_block` that keeps nothing for the backward pass but its inputs."""
    block: Tensor = checkpoint(
        _siglip_block,
        images,
        texts,
        logit_scale,
        logit_bias,
        first,
        use_reentrant=False,
        preserve_rng_state=False,
    )
    return block


def _siglip_block(
    images: Tensor, texts: Tensor, logit_scale: Tensor, logit_bias: Tensor | None, first: int
) -> Tensor:
    """-Σ ln σ(z l) of the images from `first` on with all texts, prepared -> ()."""
    logits = _scaled(dot_products(images, texts), logit_scale, logit_bias)
    # -ln σ(z l) = softplus(-z l): only the diagonal changes its sign. The other way, subtracting
    # Σ l_ii from Σ softplus(l), loses digits to cancellation once the matches are found.
    signed = torch.diagonal_scatter(logits, -logits.diagonal(first), first)
    return F.softplus(signed).sum()


def dcl(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: Tensor,
    *,
    similarity: Prepare = cosine,
    logit_bias: Tensor | None = None,
    groups: Tensor | None = None,  # noqa: ARG001 - one signature for all losses
) -> Tensor:
    """Decoupled contrastive loss (Yeh et al. 2022): -l_ii + ln Σ_{j≠i} exp(l_ij).

    InfoNCE without the match in the denominator: an easy match no longer weakens the gradient,
    which helps small batches. It can be negative.
    """
    logits = pair_logits(image_features, text_features, logit_scale, similarity, logit_bias)
    if len(logits) == 1:
        return _zero(logits)
    return (_dcl_rows(logits) + _dcl_rows(logits.T)) / 2


def _dcl_rows(logits: Tensor) -> Tensor:
    # Subtracting the match first keeps the digits of small differences between large logits.
    return _negatives(logits - logits.diagonal()[:, None]).logsumexp(dim=1).mean()


def hn_nce(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: Tensor,
    *,
    similarity: Prepare = cosine,
    logit_bias: Tensor | None = None,
    groups: Tensor | None = None,  # noqa: ARG001 - one signature for all losses
    alpha: float = 1.0,
    beta: float = 0.25,
) -> Tensor:
    """Hard-negative NCE (Radenovic et al. 2023, HN-NCE): similar negatives weigh more.

    -ln[e^l_ii / (α e^l_ii + Σ_{j≠i} w_ij e^l_ij)], w_ij = (B-1) e^(β l_ij) / Σ_{k≠i} e^(β l_ik).
    α = 1, β = 0 is InfoNCE; α = 0 is DHN-NCE (Koleilat et al. 2024), with β = 0 `dcl`. β acts on
    logits that are already divided by the temperature. The weights are part of the loss: the
    gradient runs through them too.
    """
    logits = pair_logits(image_features, text_features, logit_scale, similarity, logit_bias)
    if len(logits) == 1:
        return _zero(logits)
    return (_hn_nce_rows(logits, alpha, beta) + _hn_nce_rows(logits.T, alpha, beta)) / 2


def _hn_nce_rows(logits: Tensor, alpha: float, beta: float) -> Tensor:
    margins = logits - logits.diagonal()[:, None]  # l_ij - l_ii; the shift cancels in w
    log_weights = math.log(len(logits) - 1) + _negatives(beta * margins).log_softmax(dim=1)
    negatives = (log_weights + margins).logsumexp(dim=1)
    if alpha == 0:
        return negatives.mean()
    return torch.logaddexp(negatives, torch.full_like(negatives, math.log(alpha))).mean()


def cyclip(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: Tensor,
    *,
    similarity: Prepare = cosine,
    logit_bias: Tensor | None = None,
    groups: Tensor | None = None,
    in_modal: float = 0.25,
    cross_modal: float = 0.25,
) -> Tensor:
    """InfoNCE with consistent geometry (Goel et al. 2022); `cyclip_parts`, summed."""
    parts = cyclip_parts(
        image_features,
        text_features,
        logit_scale,
        similarity=similarity,
        logit_bias=logit_bias,
        groups=groups,
        in_modal=in_modal,
        cross_modal=cross_modal,
    )
    return torch.stack(list(parts.values())).sum()


def cyclip_parts(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: Tensor,
    *,
    similarity: Prepare = cosine,
    logit_bias: Tensor | None = None,
    groups: Tensor | None = None,
    in_modal: float = 0.25,
    cross_modal: float = 0.25,
) -> dict[str, Tensor]:
    """Return the three terms of `cyclip`: infonce, in_modal, cross_modal.

    in_modal is λ₁/B Σ_ij (s_ij of images - s_ij of texts)², cross_modal λ₂/B Σ_ij (s_ij - s_ji)².
    Both are of cosines, without temperature, whatever `similarity` InfoNCE takes: so their weights
    always mean the same, and images can be compared with images.
    """
    images, texts = _prepared(image_features, text_features, cosine)
    across = dot_products(images, texts)
    within = dot_products(images, images) - dot_products(texts, texts)
    return {
        "infonce": infonce(
            image_features,
            text_features,
            logit_scale,
            similarity=similarity,
            logit_bias=logit_bias,
            groups=groups,
        ),
        "in_modal": in_modal * within.square().sum() / len(images),
        "cross_modal": cross_modal * (across - across.T).square().sum() / len(images),
    }


def unicl(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: Tensor,
    *,
    similarity: Prepare = cosine,
    logit_bias: Tensor | None = None,
    groups: Tensor | None = None,
) -> Tensor:
    """Unified contrastive loss (Yang et al. 2022): several texts may match an image.

    Cross-entropy against targets that are equal for all matches of a row and sum to one. Where
    captions or class prompts repeat in a batch, other losses push matching pairs apart. Without
    `groups` it is InfoNCE.
    """
    logits = pair_logits(image_features, text_features, logit_scale, similarity, logit_bias)
    matches = _matches(groups, len(logits), logits.device).to(logits.dtype)
    targets = matches / matches.sum(dim=1, keepdim=True)  # matches are symmetric: for columns too
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def _matches(groups: Tensor | None, size: int, device: torch.device) -> Tensor:
    """Who matches whom, (B, B) bool."""
    if groups is None:
        return torch.eye(size, dtype=torch.bool, device=device)
    if groups.shape != (size, 2):
        raise ValueError(
            f"groups is {tuple(groups.shape)}, expected {(size, 2)}: "
            "the image group and the text group of each pair."
        )
    groups = groups.to(device)
    return (groups[:, None] == groups[None]).any(dim=2)


def triplet(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: Tensor,
    *,
    similarity: Prepare = cosine,
    logit_bias: Tensor | None = None,
    groups: Tensor | None = None,  # noqa: ARG001 - one signature for all losses
    margin: float = 0.2,
    hardest: float = 0.0,
) -> Tensor:
    """Margin loss (Faghri et al. 2018, eq. 5 and 6): max(0, m + s_ij - s_ii) over j ≠ i.

    Of the similarities themselves, without temperature. `hardest` 1 takes the largest of each row
    (VSE++), 0 their mean; between, a mixture. The hardest alone can make all features collapse into
    one, so begin below 1.
    """
    images, texts = _prepared(image_features, text_features, similarity)
    similarities = dot_products(images, texts)
    if len(similarities) == 1:
        loss = _zero(similarities)
    else:
        rows = _triplet_rows(similarities, margin, hardest)
        loss = (rows + _triplet_rows(similarities.T, margin, hardest)) / 2
    # Whatever is learned gets a gradient, here a zero, so that nobody meets None.
    learned = logit_scale if logit_bias is None else logit_scale + logit_bias
    return loss + 0 * learned.to(loss.dtype)


def _triplet_rows(similarities: Tensor, margin: float, hardest: float) -> Tensor:
    costs = (margin + similarities - similarities.diagonal()[:, None]).clamp_min(0)
    costs = costs.masked_fill(_diagonal(costs), 0)
    mean = costs.sum(dim=1) / (len(costs) - 1)
    return torch.lerp(mean, costs.amax(dim=1), hardest).mean()


def distillation(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: Tensor,
    *,
    similarity: Prepare = cosine,
    logit_bias: Tensor | None = None,
    groups: Tensor | None = None,
    teacher_image_features: Tensor,
    teacher_text_features: Tensor,
    weight: float = 1.0,
    teacher_temperature: float = 0.01,
) -> Tensor:
    """InfoNCE beside the similarities of a teacher; `distillation_parts`, summed."""
    parts = distillation_parts(
        image_features,
        text_features,
        logit_scale,
        similarity=similarity,
        logit_bias=logit_bias,
        groups=groups,
        teacher_image_features=teacher_image_features,
        teacher_text_features=teacher_text_features,
        weight=weight,
        teacher_temperature=teacher_temperature,
    )
    return torch.stack(list(parts.values())).sum()


def distillation_parts(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: Tensor,
    *,
    similarity: Prepare = cosine,
    logit_bias: Tensor | None = None,
    groups: Tensor | None = None,
    teacher_image_features: Tensor,
    teacher_text_features: Tensor,
    weight: float = 1.0,
    teacher_temperature: float = 0.01,
) -> dict[str, Tensor]:
    """Return the two terms of `distillation`: infonce and teacher.

    The second is the cross-entropy of the logits against the softmax of the teacher's cosines, both
    directions (Hinton et al. 2015, of similarities as open_clip has it), times `weight`. Its least
    value is the entropy of the teacher, not 0.

    Args:
        teacher_image_features: (B, T), of the same images; never given a gradient.
        teacher_text_features: (B, T), of the same texts.
        weight: of the second term.
        teacher_temperature: what the teacher's cosines are divided by.
    """
    logits = pair_logits(image_features, text_features, logit_scale, similarity, logit_bias)
    with torch.no_grad():
        teacher = dot_products(*_prepared(teacher_image_features, teacher_text_features, cosine))
        teacher = (teacher / teacher_temperature).to(logits.dtype)
    if teacher.shape != logits.shape:
        raise ValueError(
            f"The teacher has {len(teacher)} pairs, the student {len(logits)}; give both the same."
        )
    rows = F.cross_entropy(logits, teacher.softmax(dim=1))
    columns = F.cross_entropy(logits.T, teacher.T.softmax(dim=1))
    return {
        "infonce": infonce(
            image_features,
            text_features,
            logit_scale,
            similarity=similarity,
            logit_bias=logit_bias,
            groups=groups,
        ),
        "teacher": weight * (rows + columns) / 2,
    }


def pair_logits(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: Tensor,
    similarity: Prepare = cosine,
    logit_bias: Tensor | None = None,
) -> Tensor:
    """Return exp(logit_scale) s + logit_bias of all pairs, (B, B): images are rows, texts columns.

    Raises:
        ValueError: an empty batch, or features that are not two (B, E).
    """
    images, texts = _prepared(image_features, text_features, similarity)
    return _scaled(dot_products(images, texts), logit_scale, logit_bias)


def _prepared(
    image_features: Tensor, text_features: Tensor, similarity: Prepare
) -> tuple[Tensor, Tensor]:
    """Check the shapes and prepare the features for the dot product."""
    shapes = tuple(image_features.shape), tuple(text_features.shape)
    if len(shapes[0]) != 2 or shapes[0] != shapes[1] or len(image_features) == 0:
        raise ValueError(
            f"image_features is {shapes[0]} and text_features {shapes[1]}; "
            "a contrastive loss takes two (B, E) with B at least 1, paired row by row."
        )
    return similarity(image_features, text_features)


def _scaled(similarities: Tensor, logit_scale: Tensor, logit_bias: Tensor | None) -> Tensor:
    logits = logit_scale.exp() * similarities
    return logits if logit_bias is None else logits + logit_bias


def _zero(logits: Tensor) -> Tensor:
    """0 with zero gradients for everything behind the logits."""
    return (logits - logits.detach()).sum() * 0


def _diagonal(matrix: Tensor) -> Tensor:
    return torch.eye(len(matrix), dtype=torch.bool, device=matrix.device)


def _negatives(matrix: Tensor) -> Tensor:
    """The matrix with -inf in place of the matches."""
    return matrix.masked_fill(_diagonal(matrix), -math.inf)
