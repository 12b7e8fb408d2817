from __future__ import annotations

import numpy as np
import pytest

from maquette.tasks.tabular.categories import CategoryColumn, as_number, in_reading_order


def fit(values: list[str | None], *, max_categories: int = 1000) -> CategoryColumn:
    return CategoryColumn.fit("c", np.array(values, dtype=object), max_categories)


def test_known_values_get_slots_from_one_in_reading_order():
    column = fit(["b", "a", None, "b"])
    assert column.values == ("a", "b")
    assert column.typical == "b"
    assert column.num_slots == 3
    assert [column.slots().get(cell, 0) for cell in ("a", "b", None, "new")] == [1, 2, 0, 0]


def test_numbers_written_as_text_sort_as_numbers():
    assert in_reading_order(["10", "2", "-1.5"]) == ("-1.5", "2", "10")
    assert in_reading_order(["10", "2", "x"]) == ("10", "2", "x")


def test_the_rarest_categories_share_the_unknown_slot():
    column = fit(["a", "a", "b", "b", "c", "d"], max_categories=2)
    assert column.values == ("a", "b")
    assert column.center == pytest.approx((1 + 1 + 2 + 2 + 0 + 0) / 6)


def test_which_equally_rare_category_stays_does_not_depend_on_row_order():
    assert fit(["b", "a", "c"], max_categories=2) == fit(["c", "b", "a"], max_categories=2)


def test_numbers_and_booleans_find_the_value_that_reads_like_them():
    slots = fit(["10115", "80331", "x"]).slots()
    assert [slots.get(cell, 0) for cell in (10115, 10115.0, "10115", 5)] == [1, 1, 1, 0]
    slots = fit(["True", "False"]).slots()
    assert (slots.get(False), slots.get(True)) == (1, 2)


@pytest.mark.parametrize(
    ("values", "is_constant"),
    [(["a", "a"], True), ([None, None], True), (["a", None], False), (["a", "b"], False)],
)
def test_constant(values, is_constant):
    assert fit(values).is_constant is is_constant


@pytest.mark.parametrize("text", ["nan", "inf", "1_000", "", "12,5", "1e999"])
def test_what_is_not_a_number(text):
    assert as_number(text) is None


@pytest.mark.parametrize(("text", "number"), [("5", 5), (" -1e-3 ", -0.001), ("+.5", 0.5)])
def test_what_is_a_number(text, number):
    assert as_number(text) == number
