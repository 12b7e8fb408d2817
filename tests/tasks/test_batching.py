from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from maquette.tasks.batching import batch_slices


def test_full_batches_and_a_shorter_last_one():
    assert batch_slices(10, 4) == [slice(0, 4), slice(4, 8), slice(8, 10)]


def test_a_last_batch_of_one_joins_the_one_before():
    assert batch_slices(9, 4) == [slice(0, 4), slice(4, 9)]


def test_single_rows_stay_where_they_are_asked_for():
    assert batch_slices(3, 1) == [slice(0, 1), slice(1, 2), slice(2, 3)]
    assert batch_slices(1, 4) == [slice(0, 1)]


def test_no_rows_give_no_batches():
    assert batch_slices(0, 4) == []


@given(st.integers(0, 300), st.integers(1, 50))
def test_slices_cover_every_row_once_in_order(num_rows, batch_size):
    slices = batch_slices(num_rows, batch_size)
    assert [row for part in slices for row in range(num_rows)[part]] == list(range(num_rows))
    sizes = [part.stop - part.start for part in slices]
    assert all(size == batch_size for size in sizes[:-1])
    assert not sizes or 1 <= sizes[-1] <= batch_size + 1
    assert batch_size == 1 or num_rows == 1 or 1 not in sizes
