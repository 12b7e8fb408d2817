"""Arrow arrays <-> NumPy arrays and Python text, through their buffers.

pyarrow's own conversions import pandas wherever it is installed, which takes longer than reading
and checking most tables. These do not, and say what a null becomes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_DTYPES = {pa.int32(): np.int32, pa.int64(): np.int64, pa.float64(): np.float64}


def is_valid(array: pa.Array) -> NDArray[np.bool_]:
    """(n,) False where the array is null."""
    validity = array.buffers()[0]
    if validity is None or array.null_count == 0:
        return np.ones(len(array), dtype=np.bool_)
    return _bits(validity, array.offset, len(array))


def to_numpy(array: pa.Array, *, null: Any) -> NDArray[Any]:
    """Copy a boolean, int32, int64 or float64 array; nulls become `null`."""
    values: NDArray[Any]
    data = array.buffers()[1]
    if data is None:
        values = np.zeros(len(array), dtype=_DTYPES.get(array.type, np.bool_))
    elif pa.types.is_boolean(array.type):
        values = _bits(data, array.offset, len(array))
    else:
        stop = array.offset + len(array)
        values = np.frombuffer(data, dtype=_DTYPES[array.type])[array.offset : stop].copy()
    if array.null_count:
        values[~is_valid(array)] = null
    return values


def to_texts(array: pa.StringArray) -> NDArray[np.object_]:
    """(n,) str, or None where the array is null."""
    texts = np.empty(len(array), dtype=object)
    texts[:] = array.to_pylist()
    return texts


def from_texts(texts: Sequence[str | None]) -> pa.StringArray:
    """Return the texts as an array; None becomes null."""
    encoded = [b"" if text is None else text.encode() for text in texts]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    validity = np.array([text is not None for text in texts], dtype=np.bool_)
    buffers = [_packed(validity), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    return pa.StringArray.from_buffers(len(texts), buffers[1], buffers[2], buffers[0])


def from_mask(mask: NDArray[np.bool_]) -> pa.BooleanArray:
    """Return a mask as an array, for `filter`."""
    return pa.Array.from_buffers(pa.bool_(), len(mask), [None, _packed(mask)])


def from_rows(rows: NDArray[np.int64]) -> pa.Int64Array:
    """Return positions as an array, for `take`."""
    data = np.ascontiguousarray(rows, dtype=np.int64)
    return pa.Array.from_buffers(pa.int64(), len(data), [None, pa.py_buffer(data)])


def _bits(buffer: pa.Buffer, offset: int, length: int) -> NDArray[np.bool_]:
    packed = np.frombuffer(buffer, dtype=np.uint8)
    return np.unpackbits(packed, count=offset + length, bitorder="little")[offset:].astype(np.bool_)


def _packed(mask: NDArray[np.bool_]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(mask, bitorder="little"))
