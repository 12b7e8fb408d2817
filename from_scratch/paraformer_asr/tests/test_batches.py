"""Batches: padding and lengths, repeatability, resuming, SpecAugment, and once round an epoch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from paraformer_asr.config import AugmentConfig, Config, DataConfig, FeatureConfig, ToyConfig
from paraformer_asr.data.batches import Batches, collate
from paraformer_asr.data.toy import ToySpeech
from paraformer_asr.data.utterance import Utterance
from paraformer_asr.errors import AsrError
from paraformer_asr.features import Frontend
from paraformer_asr.tokenizer import PADDING, Tokenizer

MASKS = AugmentConfig(freq_masks=2, freq_width=4, time_masks=1, time_width=6)


def config_of(*, seed=0, augment=None, stack=1, stride=1, **data):
    data = {"batch_frames": 400, "max_batch": 6} | data
    return Config(
        name="x",
        seed=seed,
        features=FeatureConfig(num_mels=16, stack=stack, stride=stride),
        data=DataConfig(
            toy=ToyConfig(alphabet="abcd", num_train=40, tokens=(2, 9)),
            augment=augment or AugmentConfig(),
            **data,
        ),
    )


def batches_of(config, *, train=True, dataset=None):
    toy = dataset
    if toy is None:
        toy = ToySpeech(config.data.toy, 16, split="train", seed=0)
    frontend = Frontend(config.features)
    frontend.fit(toy.load(index).frames for index in range(5))
    return Batches(toy, frontend, Tokenizer("abcd"), config, train=train)


def same(first, second):
    return (
        first.names == second.names
        and first.feats.shape == second.feats.shape
        and bool((first.feats == second.feats).all())
        and torch.equal(first.tokens, second.tokens)
    )


class Other:
    """A dataset of given utterances; `lengths` may be estimates."""

    split = "test"

    def __init__(self, utterances, lengths=None):
        self.utterances = utterances
        self.names = [u.name for u in utterances]
        self._lengths = lengths or [len(u.frames) for u in utterances]

    def __len__(self):
        return len(self.utterances)

    def load(self, index, *, epoch=0):
        return self.utterances[index]

    def lengths(self, epoch):
        return self._lengths

    def texts(self):
        return (u.text for u in self.utterances)


# Padding


def test_utterances_are_padded_to_the_longest_with_zeros_and_minus_one():
    batch = collate(
        [
            ("x", "ab", torch.ones(2, 3), [3, 4]),
            ("y", "", torch.ones(4, 3), []),
            ("z", "a", torch.ones(1, 3), [5]),
        ]
    )

    assert (batch.names, batch.texts, len(batch)) == (("x", "y", "z"), ("ab", "", "a"), 3)
    assert batch.feats.shape == (3, 4, 3)
    assert batch.feats.sum(dim=(1, 2)).tolist() == [6, 12, 3]
    assert not batch.feats[0, 2:].any()
    assert not batch.feats[2, 1:].any()
    assert batch.tokens.tolist() == [[3, 4], [PADDING, PADDING], [5, PADDING]]
    assert batch.feat_lens.tolist() == [2, 4, 1]
    assert batch.token_lens.tolist() == [2, 0, 1]
    assert {t.dtype for t in (batch.tokens, batch.feat_lens, batch.token_lens)} == {torch.int64}
    assert batch.feats.dtype == torch.float32


def test_a_batch_of_one_has_no_padding_and_may_have_no_tokens():
    batch = collate([("x", "", torch.ones(5, 3), [])])

    assert batch.feats.shape == (1, 5, 3)
    assert batch.tokens.shape == (1, 0)
    assert batch.tokens.dtype == torch.int64


def test_a_batch_moves_as_a_whole():
    batch = collate([("x", "a", torch.ones(5, 3), [3])]).to("meta")

    tensors = (batch.feats, batch.feat_lens, batch.tokens, batch.token_lens)
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert batch.names == ("x",)


def test_batches_of_nothing_are_refused():
    with pytest.raises(AsrError, match="a batch needs at least one utterance"):
        collate([])
    with pytest.raises(AsrError, match="y has no frames; leave it out"):
        collate([("x", "a", torch.ones(2, 3), [3]), ("y", "a", torch.ones(0, 3), [3])])


# An epoch


@pytest.mark.parametrize("bucketing", [True, False])
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("epoch", [0, 3])
def test_each_utterance_comes_once_in_an_epoch_and_batches_keep_the_budget(train, bucketing, epoch):
    config = config_of(bucketing=bucketing, stack=3, stride=2, augment=MASKS)
    batches = batches_of(config, train=train)
    made = [batches.get(epoch, position) for position in range(batches.num(epoch))]

    assert sorted(n for batch in made for n in batch.names) == sorted(batches.dataset.names)
    for batch in made:
        assert batch.feats.shape[0] <= 6
        assert batch.feats.shape[0] * batch.feats.shape[1] <= 400 or len(batch) == 1


def test_a_batch_holds_the_utterances_that_its_names_say():
    batches = batches_of(config_of(stack=3, stride=2))
    batch = batches.get(1, 2)
    place = {name: index for index, name in enumerate(batches.dataset.names)}

    for row, name in enumerate(batch.names):
        utterance = batches.dataset.load(place[name], epoch=1)
        feats = batches.frontend(utterance.frames)
        assert batch.feat_lens[row] == len(feats)
        assert torch.equal(batch.feats[row, : len(feats)], feats)
        assert not batch.feats[row, len(feats) :].any()
        assert batch.texts[row] == utterance.text
        ids = batches.tokenizer.encode(utterance.text)
        assert batch.tokens[row, : batch.token_lens[row]].tolist() == ids
        assert (batch.tokens[row, len(ids) :] == PADDING).all()


def test_a_resumed_run_gets_the_batches_it_would_have_got():
    config = config_of(augment=MASKS)
    whole = batches_of(config)
    seen = [whole.get(epoch, p) for epoch in (0, 1) for p in range(whole.num(epoch))]
    resumed = batches_of(config)

    assert same(resumed.get(1, 3), seen[whole.num(0) + 3])
    assert same(resumed.get(0, 1), seen[1])


def test_going_on_in_an_epoch_loads_only_the_batch_that_is_asked_for(monkeypatch):
    batches = batches_of(config_of())
    loaded = []
    load = batches.dataset.load
    monkeypatch.setattr(
        batches.dataset, "load", lambda i, *, epoch=0: loaded.append(i) or load(i, epoch=epoch)
    )
    batch = batches.get(5, batches.num(5) - 1)

    assert len(loaded) == len(batch)


def test_the_seed_makes_the_order_and_epochs_differ():
    def names(seed, epoch):
        batches = batches_of(config_of(seed=seed))
        return [batches.get(epoch, p).names for p in range(batches.num(epoch))]

    assert names(0, 1) == names(0, 1)
    assert names(0, 1) != names(0, 2)
    assert names(0, 1) != names(1, 1)


def test_evaluation_goes_through_all_by_length_and_is_the_same_for_every_seed():
    config = config_of(augment=MASKS)
    batches = batches_of(config, train=False)
    made = list(batches)
    longest = [int(batch.feat_lens.max()) for batch in made]

    assert longest == sorted(longest)
    assert len(made) == len(batches) == batches.num()
    again = batches_of(replace(config, seed=7), train=False)
    assert all(same(a, b) for a, b in zip(made, again, strict=True))


# SpecAugment


def test_training_hides_parts_of_features_and_evaluation_does_not():
    plain = batches_of(config_of())
    masked = batches_of(config_of(augment=MASKS))
    first, second = plain.get(0, 0), masked.get(0, 0)

    assert first.names == second.names
    changed = first.feats != second.feats
    assert changed.any()
    assert not second.feats[changed].any()
    assert (~changed).float().mean() > 0.2
    evaluated = batches_of(config_of(augment=MASKS), train=False).get(0, 0)
    assert same(evaluated, batches_of(config_of(), train=False).get(0, 0))


def test_masks_are_drawn_by_seed_epoch_and_utterance():
    def hidden(seed, epoch):
        batches = batches_of(config_of(seed=seed, augment=MASKS, max_batch=1))
        _, _, feats, _ = batches.item(batches.frontend, epoch, 3)
        return feats == 0

    assert torch.equal(hidden(0, 0), hidden(0, 0))
    assert not torch.equal(hidden(0, 0), hidden(0, 1))
    assert not torch.equal(hidden(0, 0), hidden(1, 0))


# Devices and mistakes


def test_batches_are_made_on_the_cpu_when_the_model_is_elsewhere():
    batches = batches_of(config_of())
    expected = batches.get(0, 0)
    placed = batches_of(config_of())
    copies = []

    class Elsewhere(Frontend):
        """Says that its buffers are on another device; its copy is on the CPU."""

        def __deepcopy__(self, memo):
            copies.append(1)
            return batches.frontend

    placed.frontend = Elsewhere(config_of().features).to("meta")
    assert same(placed.get(0, 0), expected)
    assert copies == [1]


def test_an_empty_dataset_is_refused():
    with pytest.raises(AsrError, match="the test split has no utterances; look at the manifest"):
        Batches(Other([]), Frontend(config_of().features), Tokenizer("a"), config_of(), train=False)


def test_a_batch_that_is_not_there_is_an_index_error():
    batches = batches_of(config_of())

    for position in (-1, batches.num(0)):
        with pytest.raises(IndexError, match=f"batch {position} of {batches.num(0)} in epoch 0"):
            batches.get(0, position)


def test_unknown_characters_become_the_unknown_token():
    dataset = Other([Utterance("u", "a?b", torch.zeros(30, 16))] * 5)
    batch = batches_of(config_of(), dataset=dataset, train=False).get(0, 0)

    assert batch.tokens[0].tolist() == [3, Tokenizer("abcd").unknown, 4]


def test_estimated_lengths_are_enough():
    utterances = [Utterance(f"u{n}", "a", torch.zeros(20 + n, 16)) for n in range(8)]
    batches = batches_of(config_of(), dataset=Other(utterances, lengths=[25] * 8), train=False)
    made = list(batches)

    assert sorted(n for batch in made for n in batch.names) == sorted(u.name for u in utterances)
    for batch in made:
        assert batch.feats.shape[1] == batch.feat_lens.max()
