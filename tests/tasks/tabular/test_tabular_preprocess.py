"""The preprocessor as a whole: one encoding for training and serving, exact through JSON."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tables import make_samples, mixed_samples
from torch import Tensor

from maquette.errors import DataError
from maquette.recipe.schema import TabularPreprocessing
from maquette.tasks.tabular.preprocess import TabularPreprocessor
from maquette.tasks.tabular.row_schema import date_text, example_row
from maquette.tasks.tabular.samples import TableSamples

ENCODINGS = ("onehot", "ordinal", "embedding")
SCALINGS = ("standard", "robust", "quantile")


def fit(samples: TableSamples, **chosen: Any) -> TabularPreprocessor:
    return TabularPreprocessor.fit(samples, TabularPreprocessing.model_validate(chosen))


def raw_rows(samples: TableSamples) -> list[dict[str, Any]]:
    """The rows as a JSON request would hold them."""
    rows = []
    for i in range(len(samples)):
        row: dict[str, Any] = {}
        for name in samples.columns:
            if name in samples.numbers:
                cell = float(samples.numbers[name][i])
                row[name] = None if np.isnan(cell) else cell
            elif name in samples.dates:
                date = samples.dates[name][i]
                row[name] = None if np.isnat(date) else date_text(date)
            else:
                row[name] = samples.categories[name][i]
        rows.append(row)
    return json.loads(json.dumps(rows))


def assert_same(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("scaling", SCALINGS)
def test_requests_and_files_encode_bit_for_bit_alike_also_after_json(encoding, scaling):
    samples = mixed_samples()
    fitted = fit(samples, categorical_encoding=encoding, scaling=scaling)
    restored = TabularPreprocessor.from_json(json.loads(json.dumps(fitted.to_json())))
    assert restored == fitted
    from_file = fitted.encode_samples(samples)
    rows = raw_rows(samples)
    assert_same(restored.encode(rows), from_file)
    assert_same(restored.encode([list(row.values()) for row in rows]), from_file)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_row_encodes_alike_alone_and_in_any_batch(encoding):
    samples = mixed_samples()
    fitted = fit(samples, categorical_encoding=encoding)
    together = fitted.encode(raw_rows(samples))
    for i, row in enumerate(raw_rows(samples)):
        assert_same(fitted.encode([row]), tuple(tensor[i : i + 1] for tensor in together))


@given(st.permutations(["colour", "age", "since", "postcode", "income"]))
@settings(max_examples=15, deadline=None)
def test_the_order_of_fields_in_a_row_does_not_matter(order):
    samples = mixed_samples(20)
    fitted = fit(samples)
    shuffled = [{name: row[name] for name in order} for row in raw_rows(samples)]
    assert_same(fitted.encode(shuffled), fitted.encode(raw_rows(samples)))


def test_fitting_twice_on_reordered_rows_gives_the_same_inputs():
    samples = mixed_samples()
    order = np.random.default_rng(1).permutation(len(samples))
    first = fit(samples).encode_samples(samples)
    second = fit(samples.take(order)).encode_samples(samples)
    torch.testing.assert_close(first, second, rtol=1e-6, atol=1e-6)


def test_only_the_training_rows_are_learned_from():
    samples = mixed_samples(100)
    train = samples.take(np.arange(70))
    fitted = fit(train)
    before = fitted.to_json()
    fitted.encode_samples(samples.take(np.arange(70, 100)))
    assert fitted.to_json() == before == fit(train).to_json()
    columns = torch.cat([fitted.encode_samples(train)[0]])[:, 0]  # age, the first number
    assert columns.mean().abs() < 1e-6
    assert (columns.std(correction=0) - 1).abs() < 1e-6


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_an_empty_batch_keeps_the_widths(encoding):
    fitted = fit(mixed_samples(), categorical_encoding=encoding)
    inputs = fitted.encode([])
    assert inputs[0].shape == (0, fitted.num_numbers)
    assert [x.shape for x in inputs[1:]] == ([(0, 2)] if encoding == "embedding" else [])


def test_the_layout_of_the_inputs():
    samples = make_samples(
        numbers={"x": [0.0, 1.0, np.nan, 2.0], "same": [5.0] * 4},
        dates={"day": ["2024-01-01", "2024-01-01", "2024-07-01", "2024-07-01"]},
        categories={"c": ["a", "b", None, "b"], "always": ["k"] * 4},
        target=["n", "y", "n", "y"],
    )
    fitted = fit(samples)
    (inputs,) = fitted.encode_samples(samples)
    assert inputs.shape == (4, fitted.num_numbers) == (4, 1 + 1 + 1 + 2 + 3)
    torch.testing.assert_close(inputs[:, 1], torch.tensor([-1.0, -1, 1, 1]))  # days
    torch.testing.assert_close(inputs[:, 2], torch.tensor([0.0, 0, 1, 0]))  # x is missing
    expected = torch.tensor([[0.0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 0, 1]])
    torch.testing.assert_close(inputs[:, 5:], expected)
    assert fitted.onehot_starts.tolist() == [5]

    embedded = fit(samples, categorical_encoding="embedding")
    numbers, slots = embedded.encode_samples(samples)
    torch.testing.assert_close(numbers, inputs[:, :5])
    assert slots.tolist() == [[1], [2], [0], [2]]
    assert embedded.category_sizes == (3,)
    assert embedded.num_inputs == 6

    ordinal = fit(samples, categorical_encoding="ordinal")
    (inputs,) = ordinal.encode_samples(samples)
    codes = np.array([1, 2, 0, 2])
    np.testing.assert_allclose(inputs[:, 5], (codes - codes.mean()) / codes.std(), rtol=1e-6)


def test_unseen_categories_take_the_slot_of_the_missing_in_all_encodings():
    samples = mixed_samples()
    for encoding in ENCODINGS:
        fitted = fit(samples, categorical_encoding=encoding)
        row = raw_rows(samples)[0]
        unseen, missing = row | {"colour": "violet"}, row | {"colour": None}
        assert_same(fitted.encode([unseen]), fitted.encode([missing]))
        assert not torch.equal(fitted.encode([unseen])[-1], fitted.encode([row])[-1])


def test_missing_values_under_error_are_named_with_their_row():
    samples = make_samples(numbers={"x": [1.0, 2.0, 3.0]}, target=[1.0, 2.0, 3.0])
    fitted = fit(samples, handle_missing="error")
    other = make_samples(numbers={"x": [1.0, np.nan]}, target=[1.0, 2.0])
    with pytest.raises(DataError, match=r"row 3 has no value in column 'x', and preproc.* 'error'"):
        fitted.encode_samples(other)


def test_class_targets_are_positions_in_reading_order():
    samples = make_samples(numbers={"x": [1.0, 2.0, 3.0, 4.0]}, target=["10", "9", "10", "10"])
    fitted = fit(samples)
    assert fitted.classes == ("9", "10")
    assert fitted.class_counts == (1, 3)
    assert fitted.encode_targets(samples).tolist() == [1, 0, 1, 1]


def test_a_class_without_training_rows_is_refused():
    fitted = fit(make_samples(numbers={"x": [1.0, 2.0]}, target=["a", "b"]))
    other = make_samples(numbers={"x": [1.0, 2.0]}, target=["a", "c"])
    with pytest.raises(
        DataError, match="row 3 has the class 'c' in column 'outcome', which no tra"
    ):
        fitted.encode_targets(other)


def test_number_targets_are_standardised():
    samples = make_samples(numbers={"x": [1.0, 2.0, 3.0]}, target=[10.0, 20.0, 60.0])
    fitted = fit(samples)
    targets = fitted.encode_targets(samples)
    assert fitted.classes is None
    assert targets.dtype == torch.float32
    back = targets.double() * fitted.target_scale + fitted.target_mean
    torch.testing.assert_close(back, torch.tensor([10.0, 20, 60]).double(), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(
    ("numbers", "target", "message"),
    [
        ([1.0, 2.0], ["a", "a"], "Column 'outcome' is 'a' in every training row; a classifier"),
        ([1.0, 2.0], [3.0, 3.0], "Column 'outcome' is 3 in every training row; there is nothing"),
        ([1.0, 1.0], ["a", "b"], "No input column varies in the 2 training rows, so there is not"),
    ],
)
def test_what_cannot_be_learned_is_refused(numbers, target, message):
    with pytest.raises(DataError, match=message):
        fit(make_samples(numbers={"x": numbers}, target=target))


def test_the_input_schema_accepts_the_training_rows_and_the_example():
    samples = mixed_samples()
    fitted = fit(samples)
    schema = fitted.input_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    example = example_row(fitted.columns, fitted.numbers, fitted.dates, fitted.categories)
    for row in [*raw_rows(samples), example]:
        jsonschema.validate(row, schema)
    assert list(example) == list(samples.columns)
    assert list(schema["properties"]) == list(samples.columns)
    fitted.encode([example])


@pytest.mark.parametrize(
    "change", [{"age": "old"}, {"colour": ["red"]}, {"since": 5}, {"height": 1.0}]
)
def test_the_input_schema_refuses_what_encode_refuses(change):
    samples = mixed_samples()
    fitted = fit(samples)
    row = raw_rows(samples)[0] | change
    assert not jsonschema.Draft202012Validator(fitted.input_schema()).is_valid(row)


def test_null_is_not_in_the_schema_where_missing_is_an_error():
    samples = make_samples(numbers={"x": [1.0, 2.0]}, target=["a", "b"])
    schema = fit(samples, handle_missing="error").input_schema()
    assert schema["properties"]["x"]["type"] == "number"


def test_the_state_is_json_without_nan():
    samples = make_samples(
        numbers={"x": [1.0, 2.0], "gone": [np.nan, np.nan]},
        dates={"d": ["NaT", "NaT"]},
        categories={"c": [None, None]},
        target=["a", "b"],
    )
    fitted = fit(samples)
    state = json.loads(json.dumps(fitted.to_json(), allow_nan=False))
    assert TabularPreprocessor.from_json(state) == fitted
    json.dumps(fitted.input_schema(), allow_nan=False)
    example = example_row(fitted.columns, fitted.numbers, fitted.dates, fitted.categories)
    assert fitted.encode([example])[0].shape == (1, 1)
