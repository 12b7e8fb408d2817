"""Reading CSV and Parquet: cells, rows, and every broken file by its message."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maquette.data import csv_text
from maquette.data.csv_text import guess_delimiter
from maquette.data.tables import Table, read_table
from maquette.data.text_encoding import guess_encoding
from maquette.errors import DataError, UsageError


def write(folder: Path, content: str | bytes, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(folder: Path, content: str | bytes, **settings: object) -> Table:
    return read_table(write(folder, content), **settings)  # type: ignore[arg-type]


def refusal(folder: Path, content: str | bytes, **settings: object) -> str:
    with pytest.raises(DataError) as caught:
        read(folder, content, **settings)
    return str(caught.value).replace(str(folder) + os.sep, "")


def cells(table: Table) -> dict[str, list[str | None]]:
    return {name: column.to_pylist() for name, column in table.cells.items()}


def test_cells_stay_text(tmp_path):
    table = read(tmp_path, "zip,size\n01234,1.50\n 7 ,x y\n")
    assert cells(table) == {"zip": ["01234", "7"], "size": ["1.50", "x y"]}
    assert table.columns == ("zip", "size")
    assert table.lines.tolist() == [2, 3]


def test_missing_values_are_null(tmp_path):
    table = read(tmp_path, 'a,b\nNA,\n?,"NA"\n NA ,NAN\n', missing_values=("", "NA", "?"))
    assert cells(table) == {"a": [None, None, None], "b": [None, None, "NAN"]}


def test_empty_cells_are_text_when_not_declared_missing(tmp_path):
    assert cells(read(tmp_path, "a,b\n,1\n", missing_values=())) == {"a": [""], "b": ["1"]}


def test_rows_are_numbered_as_an_editor_does(tmp_path):
    content = 'a,b\n1,2\n\n3,"x\ny"\n4,5\n\n'
    table = read(tmp_path, content)
    assert table.lines.tolist() == [2, 4, 6]
    assert cells(table)["b"] == ["2", "x\ny", "5"]


def test_header_may_span_lines(tmp_path):
    table = read(tmp_path, '\n"a\nb",c\n1,2\n')
    assert table.columns == ("a\nb", "c")
    assert table.lines.tolist() == [4]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("end", ["", "\n"])
def test_line_ends(tmp_path, newline, end):
    table = read(tmp_path, f"a,b\n1,2\n3,4{end}".replace("\n", newline).encode())
    assert cells(table) == {"a": ["1", "3"], "b": ["2", "4"]}
    assert table.lines.tolist() == [2, 3]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252"])
def test_encodings(tmp_path, encoding):
    table = read(tmp_path, "ort,größe\nKöln,1\n".encode(encoding), encoding=encoding)
    assert cells(table) == {"ort": ["Köln"], "größe": ["1"]}


def test_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    assert read(tmp_path, "a,b\n1,2\n".encode("utf-8-sig")).columns == ("a", "b")


def test_delimiters(tmp_path):
    assert cells(read(tmp_path, "a;b\n1,5;2\n", delimiter=";")) == {"a": ["1,5"], "b": ["2"]}


def test_a_row_longer_than_a_block(tmp_path):
    long = "x" * 3_000_000
    assert cells(read(tmp_path, f"a,b\n1,{long}\n2,y\n"))["b"] == [long, "y"]


def test_take_keeps_lines(tmp_path):
    table = read(tmp_path, "a\n1\n2\n3\n").take(np.array([2, 0]))
    assert cells(table) == {"a": ["3", "1"]}
    assert table.lines.tolist() == [4, 2]


@settings(deadline=None)
@given(
    st.lists(
        st.lists(st.text(st.sampled_from('ab,"\n;é '), min_size=1), min_size=2, max_size=2),
        min_size=1,
        max_size=8,
    )
)
def test_what_the_csv_module_writes_is_read_back(tmp_path_factory, rows):
    import csv

    path = tmp_path_factory.mktemp("csv") / "table.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerows([["first", "second"], *rows])
    table = read_table(path, missing_values=())
    assert cells(table) == {
        "first": [row[0].strip() for row in rows],
        "second": [row[1].strip() for row in rows],
    }
    starts = 2 + np.cumsum([0] + [1 + (a + b).count("\n") for a, b in rows[:-1]])
    assert table.lines.tolist() == starts.tolist()


# Parquet


def test_parquet_becomes_text_too(tmp_path):
    path = tmp_path / "table.parquet"
    table = pa.table(
        {
            "whole": pa.array([1, None], pa.int32()),
            "real": [0.1, 2.0],
            "single": pa.array([0.1, 2.0], pa.float32()),
            "half": pa.array(np.array([0.5, 2.0], np.float16)),
            "truth": [True, False],
            "word": pa.array(["x", "NA"]).dictionary_encode(),
            "day": pa.array([0, 19000], pa.date32()),
        }
    )
    pyarrow.parquet.write_table(table, path)
    read_back = read_table(path, missing_values=("", "NA"))
    assert cells(read_back) == {
        "whole": ["1", None],
        "real": ["0.1", "2"],
        "single": ["0.1", "2"],
        "half": ["0.5", "2"],
        "truth": ["true", "false"],
        "word": ["x", None],
        "day": ["1970-01-01", "2022-01-08"],
    }
    assert read_back.lines.tolist() == [1, 2]


def test_parquet_with_lists(tmp_path):
    path = tmp_path / "table.parquet"
    pyarrow.parquet.write_table(pa.table({"a": [[1, 2]], "b": [1]}), path)
    with pytest.raises(DataError, match=r"column 'a' holds list<.*>; expected numbers, text"):
        read_table(path)


def test_parquet_without_rows(tmp_path):
    path = tmp_path / "table.parquet"
    pyarrow.parquet.write_table(pa.table({"a": pa.array([], pa.int64())}), path)
    with pytest.raises(DataError, match=r"has 1 columns but no row"):
        read_table(path)


def test_parquet_cut_short(tmp_path):
    path = tmp_path / "table.parquet"
    pyarrow.parquet.write_table(pa.table({"a": [1, 2, 3]}), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"table\.parquet is not a whole Parquet file: "):
        read_table(path)


# Broken files


def test_missing_file_names_the_nearest(tmp_path):
    write(tmp_path, "a\n1\n", "iris.csv")
    with pytest.raises(
        DataError, match=r"There is no file .*irs\.csv\. Did you mean 'iris\.csv'\?"
    ):
        read_table(tmp_path / "irs.csv")


def test_missing_folder(tmp_path):
    with pytest.raises(DataError, match=r"The folder .*gone does not exist either\."):
        read_table(tmp_path / "gone" / "iris.csv")


def test_folder_instead_of_a_file(tmp_path):
    write(tmp_path, "a\n1\n", "iris.csv")
    with pytest.raises(
        DataError, match=r"is a folder, expected one CSV or .*; it holds iris\.csv\."
    ):
        read_table(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_no_permission(tmp_path):  # pragma: no cover
    path = write(tmp_path, "a\n1\n")
    path.chmod(0)
    with pytest.raises(DataError, match=r"may not be read by this user\. .*chmod u\+r"):
        read_table(path)


def test_no_permission_as_the_system_says_it(tmp_path, monkeypatch):
    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match=r"may not be read by this user\. .*chmod u\+r"):
        read_table(tmp_path / "table.csv")


@pytest.mark.parametrize("content", ["", "\n\n", "  \n", "\ufeff"])
def test_empty(tmp_path, content):
    assert refusal(tmp_path, content) == (
        "table.csv is empty; expected a header row and at least one row of cells."
    )


def test_header_only(tmp_path):
    assert refusal(tmp_path, "a,b\n") == (
        "table.csv has a header (a, b) but no row below it: there is nothing to learn from."
    )


def test_duplicate_columns(tmp_path):
    assert refusal(tmp_path, "a,b,a,c,b\n1,2,3,4,5\n") == (
        "table.csv: the header (row 1) has duplicate columns: 'a' is columns 1 and 3; 'b' is "
        "columns 2 and 5. Rename or remove all but one."
    )


def test_header_missing(tmp_path):
    message = refusal(tmp_path, "5.1,3.5,5.1\n4.9,3.0,1.4\n")
    assert message.endswith("Row 1 holds numbers: is the header missing?")


def test_unnamed_column(tmp_path):
    assert refusal(tmp_path, ",a,b\n0,1,2\n") == (
        "table.csv: column 1 of 3 has no name in the header (row 1). It looks like a saved row "
        "index. Name it, and list it in ignore_columns if the model must not see it."
    )
    assert "column 2 of 3 has no name in the header (row 1). Name it" in refusal(
        tmp_path, "a, ,b\n0,1,2\n"
    )


def test_ragged_rows(tmp_path):
    assert refusal(tmp_path, 'a,b,c\n1,2,3\n\n4,5\n6,"7\n7",8\n9,10,11,12\n') == (
        "table.csv: 2 of 4 rows have more or fewer cells than the header:\n"
        "  row 4: 2 cells, expected 3: '4,5'\n"
        "  row 7: 4 cells, expected 3: '9,10,11,12'\n"
        "Put a cell that holds the delimiter or a line break in double quotes."
    )


def test_ragged_rows_are_counted_past_ten(tmp_path):
    message = refusal(tmp_path, "a,b\n1,2\n" + "1\n" * 15)
    assert "  row 12: 1 cell, expected 2: '1'\n  … and 5 more\n" in message


def test_every_row_ragged(tmp_path):
    message = refusal(tmp_path, "a,b\n1,2,3\n4,5,6\n")
    assert message.endswith(
        "Every row has 3 cells and the header names 2: name every column in row 1."
    )


def test_ragged_rows_on_request(tmp_path):
    table = read(tmp_path, "a,b\n1,2\n3\n4,5\n", allow_ragged=True)
    assert table.lines.tolist() == [2, 4]
    assert [str(row) for row in table.ragged] == ["row 3: 1 cell, expected 2: '3'"]


def test_wrong_encoding(tmp_path):
    content = "ort,zahl\nBonn,1\nKöln,2\n".encode("latin-1")
    assert refusal(tmp_path, content) == (
        "table.csv: row 3 is not utf-8 text: byte 0xf6 at offset 17, in 'Köln,2' (shown as "
        "cp1252). Set encoding: cp1252, or save the file as UTF-8."
    )


def test_utf_16_read_as_utf_8(tmp_path):
    assert refusal(tmp_path, "a,b\n1,2\n".encode("utf-16")) == (
        "table.csv starts with the byte order mark of utf-16 but is read as utf-8. "
        "Set encoding: utf-16."
    )


def test_unknown_encoding(tmp_path):
    with pytest.raises(UsageError, match=r"encoding 'utf-9' is not .* Did you mean 'utf-8'\?"):
        read(tmp_path, "a\n1\n", encoding="utf-9")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("a;b;c\n1;2;3\n", "'a;b;c', but it holds 2 × semicolon ';'. Set delimiter: \";\"."),
        ("a\tb\n1\t2\n", "'a\\tb', but it holds 1 × tab '\\t'. Set delimiter: \"\\t\"."),
    ],
)
def test_wrong_delimiter(tmp_path, content, found):
    expected = f"table.csv: cut at comma ',' the header is one column, {found}"
    assert refusal(tmp_path, content) == expected


@pytest.mark.parametrize("delimiter", ["é", '"', "\n", "", "::"])
def test_no_delimiter(tmp_path, delimiter):
    with pytest.raises(
        UsageError, match=r"delimiter .* cannot stand between cells; give one ASCII"
    ):
        read(tmp_path, "a\n1\n", delimiter=delimiter)


def test_one_column_is_a_table(tmp_path):
    assert cells(read(tmp_path, "a b\nx; y\nz\n")) == {"a b": ["x; y", "z"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04rest", "is not a table but a zip file or an Excel workbook; save the sheet"),
        (b"\x89PNG\r\n\x1a\n", "is not a table but a PNG image"),
        (b"a,b\n1,\0\0\n", "is not a table: it holds zero bytes"),
    ],
)
def test_not_a_table(tmp_path, content, message):
    assert message in refusal(tmp_path, content)


def test_open_quote(tmp_path):
    assert refusal(tmp_path, 'a,b\n1,2\n3,"four\n5,6\n') == (
        "table.csv: row 3 opens a quote that is never closed: '3,\"four\\n5,6'. "
        "Close it, or write a quote that belongs to the text twice."
    )


def test_endless_open_quote(tmp_path):
    message = refusal(tmp_path, 'a,b\n1,2\n3,"four\n' + "5,6\n" * 50_000)
    assert "table.csv: row 3 " in message
    assert "never closed" in message


def test_endless_open_quote_in_the_header(tmp_path):
    message = refusal(tmp_path, '"a,b\n' + "5,6\n" * 50_000)
    assert message.startswith("table.csv: the header in row 1 cannot be read: field larger than")


def test_rows_that_the_two_parsers_count_differently(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_text, "_records", lambda *_: iter([csv_text.RaggedRow(2, 2, 2, "1,2")]))
    message = refusal(tmp_path, "a,b\n1,2\n\n3,4\n")
    assert message.startswith("table.csv: its quotes can be read in two ways, as 2 or 1 rows.")


def test_disk_that_cannot_be_read(tmp_path, monkeypatch):
    def refuse(_: Path) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match=r"table\.csv cannot be read: Input/output error\."):
        read_table(tmp_path / "table.csv")


@settings(deadline=None, max_examples=500)
@given(st.one_of(st.binary(), st.text(st.sampled_from('a1,;"\n\r\t é')).map(str.encode)))
def test_any_bytes_are_a_table_or_a_data_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("fuzz") / "table.csv"
    path.write_bytes(content)
    try:
        table = read_table(path, allow_ragged=True)
    except DataError:
        return
    assert len(table.columns) > 0
    assert {len(column) for column in table.cells.values()} == {len(table)}
    assert len(table) + len(table.ragged) > 0


def test_guesses():
    assert guess_delimiter("a;b\n1,5;2\n") == ";"
    assert guess_delimiter("a,b\n1,2\n") == ","
    assert guess_delimiter("a\n1\n") == ","
    assert guess_encoding("é".encode()) == "utf-8"
    assert guess_encoding("é".encode("latin-1")) == "cp1252"
    assert guess_encoding(b"\x81") == "latin-1"
    assert guess_encoding("é".encode("utf-16")) == "utf-16"
