"""Utterances become batches: normalised features and token ids, padded side by side.

`Batches` plans an epoch by lengths alone and makes each batch when it is asked for, by (epoch,
position): a run that is resumed goes on where it was without loading what came before.

Letters: B utterances, T stacked frames, F features of each (stack * num_mels), K tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paraformer_asr.augment import spec_augment
from paraformer_asr.config import Config
from paraformer_asr.data.buckets import length_buckets
from paraformer_asr.data.purposes import Purpose
from paraformer_asr.data.utterance import Dataset
from paraformer_asr.errors import AsrError
from paraformer_asr.features import Frontend
from paraformer_asr.seed import stream
from paraformer_asr.tokenizer import PADDING, Tokenizer


@dataclass(frozen=True, kw_only=True)
class Batch:
    """B utterances. Padding: 0 in feats, PADDING (-1) in tokens."""

    names: tuple[str, ...]
    texts: tuple[str, ...]
    feats: Tensor
    """(B, T, F) float32."""
    feat_lens: Tensor
    """(B,) int64, 1 to T."""
    tokens: Tensor
    """(B, K) int64."""
    token_lens: Tensor
    """(B,) int64, 0 to K."""

    def __len__(self) -> int:
        return len(self.names)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with its tensors on another device."""
        return Batch(
            names=self.names,
            texts=self.texts,
            feats=self.feats.to(device),
            feat_lens=self.feat_lens.to(device),
            tokens=self.tokens.to(device),
            token_lens=self.token_lens.to(device),
        )


def collate(items: Sequence[tuple[str, str, Tensor, Sequence[int]]]) -> Batch:
    """Pad utterances to the longest of them.

    Args:
        items: (name, text, feats (T, F) float32, token ids) of each.
    Raises:
        AsrError: no utterances, or one without frames.
    """
    if not items:
        raise AsrError("a batch needs at least one utterance.")
    names, texts, feats, ids = zip(*items, strict=True)
    for name, each in zip(names, feats, strict=True):
        if len(each) == 0:
            raise AsrError(f"{name} has no frames; leave it out.")
    tokens = [torch.tensor(each, dtype=torch.int64) for each in ids]
    return Batch(
        names=names,
        texts=texts,
        feats=torch.nn.utils.rnn.pad_sequence(list(feats), batch_first=True),
        feat_lens=torch.tensor([len(each) for each in feats]),
        tokens=torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=PADDING),
        token_lens=torch.tensor([len(each) for each in tokens]),
    )


class Batches:
    """The batches of a dataset, for training or for evaluation.

    In training, order and SpecAugment are drawn by streams named (config.seed, epoch, ...): the
    same settings give the same batches, whatever was loaded before. In evaluation there is one
    order, by length, and nothing is changed.

    Args:
        frontend: stacks and normalises; fitted before the first batch is made.
        tokenizer: makes ids of texts; unknown characters become <unk>.
    Raises:
        AsrError: the dataset is empty.
    """

    def __init__(
        self,
        dataset: Dataset,
        frontend: Frontend,
        tokenizer: Tokenizer,
        config: Config,
        *,
        train: bool,
    ) -> None:
        if len(dataset) == 0:
            raise AsrError(
                f"the {dataset.split} split has no utterances; look at the manifest or at the "
                "numbers of utterances in the configuration."
            )
        self.dataset = dataset
        self.frontend = frontend
        self.tokenizer = tokenizer
        self.config = config
        self.train = train
        self._plans: dict[int, list[list[int]]] = {}

    def num(self, epoch: int = 0) -> int:
        """Batches of an epoch; may differ a little between epochs."""
        return len(self.plan(epoch))

    def lengths(self, epoch: int = 0) -> list[int]:
        """Stacked frames of each utterance, as the encoder sees them."""
        stride = self.config.features.stride
        return [-(-frames // stride) for frames in self.dataset.lengths(epoch)]

    def plan(self, epoch: int = 0) -> list[list[int]]:
        """Indices of each batch; the plan of the epoch asked for last is kept."""
        if epoch not in self._plans:
            data = self.config.data
            plan = length_buckets(
                self.lengths(epoch),
                batch_frames=data.batch_frames,
                max_batch=data.max_batch,
                seed=self.config.seed,
                epoch=epoch,
                shuffle=self.train,
                bucketing=data.bucketing or not self.train,
            )
            self._plans = {epoch: plan}
        return self._plans[epoch]

    def get(self, epoch: int, position: int) -> Batch:
        """Batch 0 <= position < num(epoch), on the CPU.

        Raises:
            IndexError: no such position.
            AsrError: a recording that cannot be read.
        """
        plan = self.plan(epoch)
        if not 0 <= position < len(plan):
            raise IndexError(f"batch {position} of {len(plan)} in epoch {epoch}")
        frontend = self.frontend
        if frontend.shift.device.type != "cpu":  # one copy, not two for each utterance
            frontend = copy.deepcopy(frontend).cpu()
        return collate([self.item(frontend, epoch, index) for index in plan[position]])

    def item(
        self, frontend: Frontend, epoch: int, index: int
    ) -> tuple[str, str, Tensor, list[int]]:
        """Name, text, feats (T, F) and token ids of one utterance, as `collate` takes them."""
        utterance = self.dataset.load(index, epoch=epoch)
        feats = frontend(utterance.frames)
        if self.train:
            rng = stream(self.config.seed, epoch, index, Purpose.SPEC_AUGMENT)
            features = self.config.features
            feats = spec_augment(feats, features.num_mels, self.config.data.augment, rng)
        ids = self.tokenizer.encode(utterance.text, where=utterance.name)
        return utterance.name, utterance.text, feats, ids

    def __len__(self) -> int:
        return self.num()

    def __iter__(self) -> Iterator[Batch]:
        """All batches of epoch 0; in evaluation each utterance once, by increasing length."""
        return (self.get(0, position) for position in range(self.num()))
