"""Conversions between Arrow and NumPy agree with pyarrow's own, and do not import pandas."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maquette.data.arrow import from_mask, from_rows, from_texts, is_valid, to_numpy, to_texts

TEXTS = st.lists(st.one_of(st.none(), st.text(max_size=4)))


@settings(deadline=None)
@given(TEXTS)
def test_texts_go_there_and_back(texts):
    array = from_texts(texts)
    array.validate(full=True)
    assert array.to_pylist() == texts
    assert array.equals(pa.array(texts, pa.string()))
    assert to_texts(array).tolist() == texts
    assert is_valid(array).tolist() == [text is not None for text in texts]


@settings(deadline=None)
@given(
    st.sampled_from([(pa.float64(), 0.5), (pa.int64(), 7), (pa.int32(), 7), (pa.bool_(), True)]),
    st.lists(st.booleans(), max_size=20),
    st.integers(0, 5),
)
def test_numbers_with_nulls_and_offsets(kind, filled, start):
    type_, value = kind
    array = pa.array([value if f else None for f in filled], type_).slice(start)
    expected = [value if f else 0 for f in filled[start:]]
    assert to_numpy(array, null=0).tolist() == expected


def test_all_null():
    assert np.isnan(to_numpy(pa.nulls(3, pa.float64()), null=np.nan)).all()
    assert to_texts(pa.nulls(2, pa.string())).tolist() == [None, None]


@settings(deadline=None)
@given(st.lists(st.booleans(), max_size=20))
def test_masks_and_rows(mask):
    array = pa.array(list(range(len(mask))), pa.int64())
    rows = np.flatnonzero(np.array(mask, dtype=bool))
    assert array.filter(from_mask(np.array(mask, dtype=bool))).to_pylist() == rows.tolist()
    assert array.take(from_rows(rows)).to_pylist() == rows.tolist()


def test_checking_a_table_imports_neither_torch_nor_pandas():
    pytest.importorskip("pandas")
    code = (
        "import sys\n"
        "from maquette.recipe.schema import TabularData\n"
        "from maquette.tasks.tabular.data import check_table\n"
        "data = dict(path='data/sample/iris.csv', target_column='species')\n"
        "check_table(TabularData(**data, schema='data/schemas/iris.json'))\n"
        "heavy = {'torch', 'pandas', 'jsonschema', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
