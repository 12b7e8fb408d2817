"""Counter-based randomness: reference outputs, independence from order, statistical sanity."""

import hashlib

import numpy as np
import pytest

from maquette.data import randomness
from maquette.data.randomness import key_of, permutation, uniforms


def draw(keys, count=4, *, seed=0, epoch=0, purpose="test"):
    return uniforms(np.asarray(keys), count, seed=seed, epoch=epoch, purpose=purpose)


def splitmix64(state, count):
    """The generator as its paper writes it: a state that advances, in Python integers."""
    outputs = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        bits = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) % 2**64
        outputs.append(bits ^ (bits >> 31))
    return outputs


def test_outputs_are_those_of_the_published_generator():
    ours = randomness._outputs(np.uint64(1234567), np.arange(5))
    assert ours.tolist() == splitmix64(1234567, 5)
    assert ours[0] == 6457827717110365317  # the first value everybody publishes for 1234567


def test_uniforms_follow_their_definition():
    stream = int.from_bytes(hashlib.blake2b(b"7/3/test", digest_size=8).digest(), "little")
    state = splitmix64(stream, 6)[5]  # key 5
    expected = [bits // 2**11 / 2**53 for bits in splitmix64(state, 4)]
    assert draw([5], seed=7, epoch=3).tolist() == [expected]


def test_a_key_draws_the_same_numbers_in_every_batch():
    keys = np.array([3, 99, 2**40, 7])
    together = draw(keys)
    np.testing.assert_array_equal(draw(keys[::-1])[::-1], together)
    for key, row in zip(keys, together, strict=True):
        np.testing.assert_array_equal(draw([key])[0], row)


def test_a_column_does_not_depend_on_the_number_of_columns():
    np.testing.assert_array_equal(draw([1, 2], count=9)[:, :3], draw([1, 2], count=3))


@pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 1}, {"purpose": "other"}])
def test_seed_epoch_and_purpose_each_change_every_number(other):
    assert not np.any(draw(range(100)) == draw(range(100), **other))


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint64])
def test_integers_of_any_width_are_keys(dtype):
    np.testing.assert_array_equal(draw(np.array([1, 2, 3], dtype=dtype)), draw([1, 2, 3]))


def test_no_keys_and_no_columns():
    assert draw(np.array([], dtype=np.int64)).shape == (0, 4)
    assert draw([1, 2], count=0).shape == (2, 0)


def test_uniforms_are_uniform_over_keys_and_columns():
    numbers = draw(range(20_000), count=8)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts = np.stack([np.histogram(column, bins=50, range=(0, 1))[0] for column in numbers.T])
    chi_square = ((counts - 400) ** 2 / 400).sum(axis=1)  # 49 degrees of freedom: 49 ± 9.9
    assert chi_square.max() < 95


def test_neighbouring_keys_columns_and_epochs_are_uncorrelated():
    numbers = draw(range(20_000), count=4)
    later = draw(range(20_000), count=4, epoch=1)
    pairs = [
        (numbers[:-1, 0], numbers[1:, 0]),
        (numbers[:, 0], numbers[:, 1]),
        (numbers[:, 0], later[:, 0]),
        (numbers[:-1, 1], numbers[1:, 0]),
    ]
    for left, right in pairs:
        assert abs(np.corrcoef(left, right)[0, 1]) < 0.03  # 4 standard errors of 1/sqrt(20 000)


def test_permutation_is_one_and_a_pure_function():
    order = permutation(1000, seed=3, epoch=5)
    assert order.dtype == np.int64
    assert sorted(order) == list(range(1000))
    np.testing.assert_array_equal(order, permutation(1000, seed=3, epoch=5))
    assert not np.array_equal(order, permutation(1000, seed=3, epoch=6))
    assert not np.array_equal(order, permutation(1000, seed=4, epoch=5))
    assert not np.array_equal(order, permutation(1000, seed=3, epoch=5, purpose="split"))


def test_permutations_of_nothing_and_of_one():
    assert permutation(0, seed=0, epoch=0).tolist() == []
    assert permutation(1, seed=0, epoch=0).tolist() == [0]


def test_every_order_of_three_is_as_likely():
    orders = [tuple(permutation(3, seed=0, epoch=epoch)) for epoch in range(6000)]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 6
    assert max(abs(count - 1000) for count in counts) < 130  # 4.5 standard deviations


def test_key_of_is_stable_and_takes_any_file_name():
    assert key_of("cats/3.png") == key_of("cats/3.png")
    assert key_of("cats/3.png") != key_of("cats/4.png")
    assert key_of("cats/3.png") == np.uint64(5564043750857484304)
    key_of(b"caf\xe9.png".decode("utf-8", "surrogateescape"))
    assert len({int(key_of(f"row {i}")) for i in range(10_000)}) == 10_000
