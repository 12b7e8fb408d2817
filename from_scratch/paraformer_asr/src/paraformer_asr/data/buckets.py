"""Lengths go in, lists of utterance numbers come out: the batches of an epoch.

A batch is padded to its longest utterance, so it costs max_length * size frames. Utterances of
similar length are put together (bucketing) within large random groups: sorting all of them would
make the same batches each epoch.

Letters: N utterances, L their lengths in frames as the encoder sees them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from paraformer_asr.data.purposes import Purpose
from paraformer_asr.errors import AsrError
from paraformer_asr.seed import stream

GROUP_BATCHES = 50
"""Batches in a group that is sorted by length: more pad less, fewer mix better."""


def length_buckets(
    lengths: Sequence[int],
    *,
    batch_frames: int,
    max_batch: int,
    seed: int = 0,
    epoch: int = 0,
    shuffle: bool = True,
    bucketing: bool = True,
) -> list[list[int]]:
    """Put every utterance into exactly one batch.

    Args:
        lengths: N numbers >= 0.
        batch_frames: most frames of a batch with its padding, max(L) * size. An utterance that is
            longer than this becomes a batch of one: none is dropped.
        max_batch: most utterances of a batch.
        seed, epoch: the same two give the same batches.
        shuffle: random order (training); false gives increasing length with bucketing, and the
            order of `lengths` without.
        bucketing: put similar lengths together.
    Raises:
        AsrError: there are no utterances.
    """
    if len(lengths) == 0:
        raise AsrError("there are no utterances to put into batches; look at the manifest's split.")
    size = np.asarray(lengths, dtype=np.int64)
    rng = stream(seed, epoch, 0, Purpose.BUCKETS)
    order = rng.permutation(len(size)) if shuffle else np.arange(len(size))

    groups = [order]
    if shuffle and bucketing:
        per_batch = min(max_batch, max(1, round(batch_frames / max(1.0, size.mean()))))
        per_group = GROUP_BATCHES * per_batch
        groups = [order[start : start + per_group] for start in range(0, len(order), per_group)]
    batches = []
    listed = size.tolist()
    for group in groups:  # each is cut alone: a batch over a border would mix short and long
        if bucketing:  # stable, so equal lengths keep their random order
            group = group[np.argsort(size[group], kind="stable")]
        batches += cut(group.tolist(), listed, batch_frames, max_batch)

    places = rng.permutation(len(batches)) if shuffle else range(len(batches))
    return [batches[place] for place in places]


def cut(
    order: Iterable[int], lengths: Sequence[int], batch_frames: int, max_batch: int
) -> list[list[int]]:
    """Fill one batch after the other in the given order, each as far as the limits allow."""
    batches: list[list[int]] = []
    longest = 0
    for index in order:
        longest = max(longest, lengths[index])
        fits = batches and len(batches[-1]) < max_batch
        if fits and longest * (len(batches[-1]) + 1) <= batch_frames:
            batches[-1].append(index)
        else:
            batches.append([index])
            longest = lengths[index]
    return batches


def padding_share(lengths: Sequence[int], batches: Sequence[Sequence[int]]) -> float:
    """Part of all computed frames that is padding: 1 - sum(L) / sum(max(L) * size), 0 to 1."""
    padded = sum(max(lengths[i] for i in batch) * len(batch) for batch in batches)
    real = sum(lengths[i] for batch in batches for i in batch)
    return 1 - real / padded if padded else 0.0
