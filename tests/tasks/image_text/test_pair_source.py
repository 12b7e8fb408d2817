"""Batches of pairs: sizes, pieces, augmentation and captions depend on seed, epoch and id alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_pairs import (
    PROMPTS,
    caption,
    data_of,
    loaded,
    made_rows,
    made_shards,
    write_manifest,
)

from maquette.data.randomness import key_of
from maquette.recipe.image_text import SizeStep
from maquette.tasks.augment import Augmenter
from maquette.tasks.image_text.data import load_labelled_pairs
from maquette.tasks.image_text.preprocess import ImageTextPreprocessor
from maquette.tasks.image_text.resolution import SizeSchedule
from maquette.tasks.image_text.source import PairSource
from maquette.tasks.image_text.text_augment import TextAugmenter
from maquette.tasks.image_text.tokenizer import ClipTokenizer

COUNT = 21


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """21 pairs with two captions each; images are kept at 8 and 16 pixels."""
    rows = made_rows(COUNT, more=lambda n: f"{caption(n)} that is described at greater length")
    path = write_manifest(tmp_path_factory.mktemp("pairs"), rows)
    data = data_of(path, text_columns=("text", "more"), resolution={"multi_scale": [8, 16]})
    return load_labelled_pairs(data, prompts=PROMPTS)


@pytest.fixture(scope="module")
def preprocessor():
    tokenizer = ClipTokenizer.train(
        [caption(n) for n in range(30)], vocabulary_size=600, context_length=40
    )
    return ImageTextPreprocessor(
        image_size=8,
        fit="crop",
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.3, 0.4),
        tokenizer=tokenizer,
        classes=None,
        prompts=PROMPTS,
        architecture={},
        similarity="cosine",
        max_pixels=10_000,
    )


MULTI = SizeSchedule(image_size=8, multi_scale=(8, 16), epochs=5, seed=1)
AUGMENTER = Augmenter(seed=1, horizontal_flip=True, rotation_range=20, brightness=0.3)


def by_id(source, order, batch_size, epoch=1):
    """What each sample became: pixels, ids without padding, targets."""
    found = {}
    for batch in source.batches(torch.as_tensor(order), batch_size, epoch=epoch):
        for number, row in enumerate(batch.rows.tolist()):
            ids = batch.inputs[1][number]
            found[source.ids[row]] = (
                batch.inputs[0][number],
                ids[: int(ids.argmax()) + 1],
                batch.targets[number],
            )
    return found


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, parts in one.items():
        for part, expected in zip(parts, other[name], strict=True):
            assert torch.equal(part, expected)


def test_evaluation_batches_are_what_serving_encodes(samples, preprocessor):
    source = PairSource(samples, preprocessor, sizes=SizeSchedule(image_size=8))
    batch = next(source.batches(torch.tensor([4, 2, 0]), 3, epoch=1))
    files = samples.store.files
    raw = [{"image": files[row].path, "text": samples.texts[row][0]} for row in (4, 2, 0)]
    pixels, ids = preprocessor.encode(raw)
    assert torch.equal(batch.inputs[0], pixels)
    assert torch.equal(batch.inputs[1], ids)
    assert batch.inputs[0].dtype == torch.float32
    assert batch.inputs[1].dtype == torch.int64
    assert batch.targets.tolist() == [[4, 4], [2, 2], [0, 0]]
    assert batch.rows.tolist() == [4, 2, 0]
    assert len(source) == COUNT


def test_another_size_is_what_serving_would_encode_at_it(samples, preprocessor):
    source = PairSource(samples, preprocessor, sizes=SizeSchedule(image_size=24))
    batch = next(source.batches(torch.tensor([3]), 1, epoch=1))
    larger = replace(preprocessor, image_size=24)
    raw = {"image": samples.store.files[3].path, "text": samples.texts[3][0]}
    assert torch.equal(batch.inputs[0], larger.encode([raw])[0])


def test_ids_are_trimmed_to_the_longest_of_a_batch(samples, preprocessor):
    source = PairSource(samples, preprocessor, sizes=SizeSchedule(image_size=8))
    for batch in source.batches(torch.arange(COUNT), 5, epoch=1):
        ids = batch.inputs[1]
        longest = max(
            preprocessor.tokenizer.num_tokens(samples.texts[row][0]) for row in batch.rows
        )
        assert ids.shape == (len(batch.rows), longest)


def test_blocks_share_a_size_and_are_cut_into_pieces(samples, preprocessor):
    source = PairSource(samples, preprocessor, sizes=MULTI, is_training=True)
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(0))
    found = list(source.batches(order, 8, epoch=2))
    sides = [MULTI.size_of(2, key_of(samples.ids[order[start]])) for start in (0, 8, 16)]
    assert set(sides) == {8, 16}
    pieces = {(8, 8): [8], (8, 5): [5], (16, 8): [2, 2, 2, 2], (16, 5): [2, 3]}
    expected = [
        (length, side)
        for side, block in zip(sides, (8, 8, 5), strict=True)
        for length in pieces[side, block]
    ]
    assert [(len(batch.rows), batch.inputs[0].shape[-1]) for batch in found] == expected
    assert torch.equal(torch.cat([batch.rows for batch in found]), order)


def test_a_lonely_last_sample_joins_the_block_before(samples, preprocessor):
    source = PairSource(samples, preprocessor, sizes=SizeSchedule(image_size=8))
    lengths = [len(b.rows) for b in source.batches(torch.arange(COUNT), 10, epoch=1)]
    assert lengths == [10, 11]
    assert [len(b.rows) for b in source.batches(torch.arange(1), 10, epoch=1)] == [1]
    assert list(source.batches(torch.arange(0), 10, epoch=1)) == []


def test_what_a_sample_becomes_does_not_depend_on_its_company(samples, preprocessor):
    source = PairSource(
        samples,
        preprocessor,
        sizes=SizeSchedule(image_size=8),
        seed=1,
        augmenter=AUGMENTER,
        text_augmenter=TextAugmenter(seed=1, sentence_start=0.5, word_dropout=0.3),
        is_training=True,
    )
    expected = by_id(source, range(COUNT), 4)
    shuffled = np.random.default_rng(0).permutation(COUNT)
    assert_same(by_id(source, shuffled, 7), expected)
    assert_same(by_id(source, range(COUNT), 1), expected)
    other = by_id(source, range(COUNT), 4, epoch=2)
    assert not all(torch.equal(other[name][0], expected[name][0]) for name in other)


def test_kept_and_decoded_images_make_the_same_batches(samples, preprocessor):
    options = {"sizes": MULTI, "seed": 1, "augmenter": AUGMENTER, "is_training": True}
    kept = PairSource(samples, preprocessor, **options)
    plain = replace(samples, store=samples.store.without_tables())
    decoded = PairSource(plain, preprocessor, **options)
    for epoch in (1, 2):
        assert_same(by_id(kept, range(COUNT), 6, epoch), by_id(decoded, range(COUNT), 6, epoch))


def test_training_draws_one_of_several_captions_and_evaluation_takes_the_first(
    samples, preprocessor
):
    training = PairSource(samples, preprocessor, sizes=SizeSchedule(image_size=8), is_training=True)
    evaluation = PairSource(samples, preprocessor, sizes=SizeSchedule(image_size=8))
    firsts = {id: ids.tolist() for id, (_, ids, _) in by_id(evaluation, range(COUNT), 8).items()}
    drawn = []
    for epoch in range(1, 9):
        found = by_id(training, range(COUNT), 8, epoch)
        drawn.append([found[id][1].tolist() == ids for id, ids in firsts.items()])
    share = np.mean(drawn)
    assert 0.35 < share < 0.65
    assert (np.mean(drawn, axis=0) < 1).all()
    again = by_id(evaluation, range(COUNT), 8, epoch=5)
    assert all(again[id][1].tolist() == ids for id, ids in firsts.items())


def test_only_training_captions_lose_words(samples, preprocessor):
    options = {
        "sizes": SizeSchedule(image_size=8),
        "text_augmenter": TextAugmenter(seed=0, word_dropout=0.99),
    }
    training = PairSource(samples, preprocessor, is_training=True, **options)
    words = {word.lower() for texts in samples.texts for text in texts for word in text.split()}
    for _, ids, _ in by_id(training, range(COUNT), 8).values():
        assert preprocessor.tokenizer.decode(ids.tolist()).replace(" ", "") in words
    evaluation = PairSource(samples, preprocessor, **options)
    plain = PairSource(samples, preprocessor, sizes=SizeSchedule(image_size=8))
    assert_same(by_id(evaluation, range(COUNT), 8), by_id(plain, range(COUNT), 8))


def test_progressive_epochs_have_their_size(samples, preprocessor):
    schedule = SizeSchedule(image_size=16, progressive=(SizeStep(until=0.5, size=8),), epochs=4)
    source = PairSource(samples, preprocessor, sizes=schedule, is_training=True)
    sides = [
        {batch.inputs[0].shape[-1] for batch in source.batches(torch.arange(COUNT), 8, epoch=epoch)}
        for epoch in (1, 2, 3, 4)
    ]
    assert sides == [{8}, {8}, {16}, {16}]


def test_equal_images_and_texts_share_their_targets(tmp_path, preprocessor):
    rows = made_rows(4)
    rows += [rows[1], rows[2] | {"image": "0.png"}]
    samples = load_labelled_pairs(data_of(write_manifest(tmp_path, rows)), prompts=PROMPTS)
    source = PairSource(samples, preprocessor, sizes=SizeSchedule(image_size=8))
    batch = next(source.batches(torch.arange(6), 6, epoch=1))
    assert batch.targets.tolist() == [[0, 0], [1, 1], [2, 2], [3, 3], [1, 1], [0, 2]]
    assert batch.targets.dtype == torch.int64


def test_only_training_on_shards_has_an_order_of_its_own(tmp_path, samples, preprocessor):
    splits = loaded(made_shards(tmp_path, (9, 9, 9)))
    sizes = SizeSchedule(image_size=8)
    training = PairSource(
        splits.train, preprocessor, sizes=sizes, is_training=True, shuffle_buffer=3
    )
    order = training.epoch_order(1)
    assert order is not None
    assert sorted(order.tolist()) == list(range(len(splits.train)))
    assert not torch.equal(order, training.epoch_order(2))
    assert PairSource(splits.valid, preprocessor, sizes=sizes).epoch_order(1) is None
    plain = PairSource(samples, preprocessor, sizes=sizes, is_training=True)
    assert plain.epoch_order(1) is None
    resumed = list(training.batches(order[8:], 4, epoch=1))
    whole = list(training.batches(order, 4, epoch=1))[2:]
    assert [batch.rows.tolist() for batch in resumed] == [batch.rows.tolist() for batch in whole]
    assert all(torch.equal(a.inputs[0], b.inputs[0]) for a, b in zip(resumed, whole, strict=True))
