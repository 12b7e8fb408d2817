"""Loading and checking the table of a recipe: types, rows set aside, refusals by their message."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from maquette.errors import DataError
from maquette.recipe.schema import TabularData
from maquette.tasks.base import DataReport, Splits
from maquette.tasks.tabular.data import TableSamples, check_table, load_table


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings(content: str, **changes: object) -> TabularData:
    Path("table.csv").write_text(content, encoding="utf-8")
    return TabularData.model_validate(
        {"path": "table.csv", "target_column": "kind"} | dict(changes)
    )


def load(content: str, *, seed: int = 0, **changes: object) -> Splits[TableSamples]:
    return load_table(settings(content, **changes), seed=seed)


def check(content: str, **changes: object) -> DataReport:
    return check_table(settings(content, **changes))


def refusal(content: str, **changes: object) -> str:
    with pytest.raises(DataError) as caught:
        check(content, **changes)
    return str(caught.value)


def rows(count: int = 12, **replaced: str) -> str:
    """A table of `count` rows `size,town,kind`; `row_3="..."` replaces row 3 of the file."""
    lines = ["size,town,kind"]
    lines += [f"{i + 1}.5,{'Bonn' if i % 2 else 'Trier'},{'ab'[i % 2]}" for i in range(count)]
    for name, line in replaced.items():
        lines[int(name.removeprefix("row_")) - 1] = line
    return "\n".join(lines) + "\n"


def together(splits: Splits[TableSamples]) -> dict[str, str]:
    """Sample id -> split."""
    return {i: name for name, ids in splits.assignment.items() for i in ids}


# Samples


def test_samples_by_kind(folder):
    content = "n,word,day,flag,code,kind\n" + "".join(
        f"{i},w{i % 3},{i + 1}.12.2023,{'true' if i % 2 else 'false'},{i % 2},{'xy'[i % 2]}\n"
        for i in range(20)
    )
    content = content.replace("\n3,w0", "\nNA,?")
    splits = load(content, categorical_columns=["code"])
    train = splits.train
    assert train.columns == ("n", "word", "day", "flag", "code")
    assert list(train.numbers) == ["n"]
    assert list(train.dates) == ["day"]
    assert list(train.categories) == ["word", "flag", "code"]
    assert train.target_name == "kind"
    assert train.date_orders == {"day": "dmy"}
    assert len(train) == 14
    assert set(together(splits)) == {f"row {line}" for line in range(2, 22)}

    (place,) = np.flatnonzero(train.lines == 2)
    assert train.ids[place] == "row 2"
    assert train.numbers["n"][place] == 0
    assert train.categories["word"][place] == "w0"
    assert train.dates["day"][place] == np.datetime64("2023-12-01")
    assert train.categories["flag"][place] == "false"
    assert train.target[place] == "x"
    home = next(s for s in (splits.train, splits.valid, splits.test) if 5 in s.lines)
    (place,) = np.flatnonzero(home.lines == 5)
    assert np.isnan(home.numbers["n"][place])
    assert home.categories["word"][place] is None


def test_parquet_gives_the_same_samples(folder):
    load(rows(12))
    table = pa.csv.read_csv("table.csv")
    pyarrow.parquet.write_table(table, "table.parquet")
    csv, parquet = (
        load_table(TabularData(path=path, target_column="kind"), seed=0).train
        for path in ("table.csv", "table.parquet")
    )
    assert csv.numbers["size"].tolist() == parquet.numbers["size"].tolist()
    assert csv.categories["town"].tolist() == parquet.categories["town"].tolist()
    assert (csv.lines == parquet.lines + 1).all()


def test_the_seed_deals_the_rows(folder):
    one, same, other = (together(load(rows(40), seed=seed)) for seed in (0, 0, 1))
    assert one == same
    assert one != other


@pytest.mark.parametrize(
    ("cells", "target_type", "expected"),
    [
        (["a", "b"], "auto", ["a", "b"]),
        (["0", "1"], "auto", ["0", "1"]),
        (["1.0", "1"], "class", None),
        (["0", "1", "1.0"], "auto", ["0", "1"]),
        (["0.5", "1"], "auto", [0.5, 1.0]),
        (["0", "1"], "number", [0.0, 1.0]),
        (["0.5", "1"], "class", ["0.5", "1"]),
        ([str(i) for i in range(20)], "auto", [str(i) for i in range(20)]),
        ([str(i) for i in range(21)], "auto", [float(i) for i in range(21)]),
    ],
)
def test_target_types(folder, cells, target_type, expected):
    content = "x,kind\n" + "".join(f"{i},{cell}\n" for i, cell in enumerate(cells * 10))
    if expected is None:
        assert "has one class, '1', in all 20 rows" in refusal(content, target_type=target_type)
        return
    splits = load(content, target_type=target_type)
    found = np.concatenate([splits.train.target, splits.valid.target, splits.test.target])
    assert set(found.tolist()) == set(expected)


def test_a_schema_types_the_columns(folder):
    schema = {
        "properties": {
            "size": {"type": "string"},
            "town": {"enum": ["Bonn", "Trier"]},
            "kind": {"enum": ["a", "b"]},
        }
    }
    Path("schema.json").write_text(json.dumps(schema))
    train = load(rows(), schema="schema.json").train
    assert list(train.categories) == ["size", "town"]
    assert list(train.numbers) == []


def test_split_columns_are_no_inputs(folder):
    content = "x,part,kind\n" + "".join(
        f"{i},{'train' if i < 14 else 'test'},{'ab'[i % 2]}\n" for i in range(20)
    )
    splits = load(content, split={"method": "column", "column": "part"})
    assert splits.train.columns == ("x",)
    assert sorted(splits.test.lines.tolist()) == list(range(16, 22))
    assert len(splits.valid) == 2

    grouped = load(content.replace("part", "g"), split={"method": "grouped", "column": "x"})
    assert grouped.train.columns == ("g",)

    timed = load(content, split={"method": "time", "column": "x"}, ignore_columns=["part"])
    assert timed.train.columns == ("x",)
    assert timed.train.numbers["x"].max() < timed.valid.numbers["x"].min()
    assert timed.valid.numbers["x"].max() < timed.test.numbers["x"].min()


# Rows set aside


def test_rows_are_set_aside_up_to_the_tolerance(folder):
    content = rows(20, row_4="abc,Bonn,a", row_7="1", row_9="inf,Bonn,a", row_10="1,Bonn,")
    report = check(content, tolerance=0.2)
    assert report.num_samples == 16
    assert list(report.quarantined) == [
        {"place": "row 4", "reason": "column 'size': 'abc', expected a number"},
        {"place": "row 7", "reason": "1 cell, expected 3: '1'"},
        {"place": "row 9", "reason": "column 'size': 'inf', expected a number (finite)"},
        {
            "place": "row 10",
            "reason": "column 'kind': nothing, expected a value: the schema requires one",
        },
    ]
    splits = load(content, tolerance=0.2)
    assert {"row 4", "row 7", "row 9", "row 10"}.isdisjoint(together(splits))
    assert list(splits.report.quarantined) == list(report.quarantined)


def test_rows_beyond_the_tolerance(folder):
    content = rows(20, row_4="abc,Bonn,a", row_7="1", row_9="inf,,a")
    assert refusal(content, tolerance=0.1) == (
        "table.csv: 3 of 20 rows cannot be used, which is more than tolerance: 0.1 allows (row 1 "
        "is the header):\n"
        "  row 4: column 'size': 'abc', expected a number\n"
        "  row 7: 1 cell, expected 3: '1'\n"
        "  row 9: column 'size': 'inf', expected a number (finite)\n"
        "Fix them, or set tolerance: 0.15 to leave them out. "
        "A cell that holds the delimiter or a line break must be in double quotes."
    )


def test_rows_of_parquet_start_at_one(folder):
    table = pa.table({"x": ["1", "abc", *"123456789"], "kind": list("abababababa")})
    pyarrow.parquet.write_table(table, "table.parquet")
    with pytest.raises(
        DataError, match=r"\(row 1 is the first sample\):\n  row 2: column 'x': 'abc'"
    ):
        check_table(TabularData(path="table.parquet", target_column="kind"))


def test_the_suggested_tolerance_is_enough(folder):
    content = rows(70, **{f"row_{line}": "abc,Bonn,a" for line in (5, 6, 7)})
    (suggested,) = [
        word
        for word in refusal(content).split()
        if word.replace(".", "").isdigit() and "0." in word
    ]
    assert check(content, tolerance=float(suggested)).num_samples == 67


def test_check_lists_every_bad_cell_and_loading_the_first(folder):
    bad = {f"row_{line}": f"abc{line},Bonn,a" for line in range(2, 52)}
    content = rows(1000, **bad)
    assert "row 51: column 'size': 'abc51', expected a number" in refusal(content)
    with pytest.raises(DataError, match=r"row 21: .*'abc21'.*\n  … and 30 more"):
        load(content)


@pytest.mark.parametrize(
    ("replaced", "hint"),
    [
        (
            {"row_3": "-,Bonn,a", "row_6": "-,Bonn,b"},
            "If '-' in column 'size' means no value, add it to missing_values.",
        ),
        (
            {"row_3": "x1,Bonn,a", "row_6": "x2,Bonn,b"},
            "If column 'size' is meant as text, add it to categorical_columns.",
        ),
    ],
)
def test_hints(folder, replaced, hint):
    assert refusal(rows(40, **replaced)).endswith(hint)


def test_all_rows_bad(folder):
    content = "x,kind\n" + "1,\n" * 5
    assert refusal(content, tolerance=1).endswith("all 5 rows are bad; none is left to learn from.")


# The broken tables of every day


def test_missing_file(folder):
    settings(rows())
    data = TabularData(path="tabel.csv", target_column="kind")
    with pytest.raises(DataError, match=r"There is no file tabel\.csv\. Did you mean 'table\.csv'"):
        check_table(data)


def test_empty_file(folder):
    assert refusal("").startswith("table.csv is empty; expected a header row")


def test_header_only(folder):
    assert refusal("size,kind\n").startswith("table.csv has a header (size, kind) but no row below")


def test_no_target(folder):
    assert refusal(rows(), target_column="kinds") == (
        "table.csv has no column 'kinds' (data.tabular.target_column). Did you mean 'kind'? "
        "Its columns: size, town, kind."
    )


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"ignore_columns": ["sise"]}, "ignore_columns"),
        ({"categorical_columns": ["sise"]}, "categorical_columns"),
        ({"split": {"method": "grouped", "column": "sise"}}, "split.column"),
    ],
)
def test_other_unknown_columns(folder, changes, key):
    message = f"has no column 'sise' (data.tabular.{key}). Did you mean 'size'?"
    assert message in refusal(rows(), **changes)


@pytest.mark.parametrize(
    "changes", [{"ignore_columns": ["kind"]}, {"split": {"method": "grouped", "column": "kind"}}]
)
def test_the_target_as_something_else(folder, changes):
    assert refusal(rows(), **changes) == (
        "Column 'kind' is the target; it can be neither in ignore_columns nor the split.column."
    )


def test_no_inputs(folder):
    assert refusal(rows(), ignore_columns=["size", "town"]) == (
        "table.csv has no input column: 'kind' is the target, and no other column is left to learn "
        "from."
    )


def test_wrong_types(folder):
    assert "row 4: column 'size': 'big', expected a number" in refusal(rows(row_4="big,Bonn,a"))


@pytest.mark.parametrize("cell", ["inf", "-Infinity", "1e999", "-nan"])
def test_not_finite(folder, cell):
    assert f"row 4: column 'size': '{cell}', expected a number" in refusal(
        rows(row_4=f"{cell},Bonn,a")
    )


@pytest.mark.parametrize("cell", ["inf", "many"])
def test_target_not_finite(folder, cell):
    content = "x,kind\n" + "".join(f"{i},{i}.5\n" for i in range(30)) + f"1,{cell}\n"
    for target_type in ("auto", "number"):
        message = refusal(content, target_type=target_type)
        assert f"row 32: column 'kind': '{cell}', expected a number" in message


def test_target_that_is_no_number(folder):
    message = refusal(rows(4), target_type="number")
    assert "row 2: column 'kind': 'a', expected a number" in message


def test_target_missing_though_the_schema_allows_it(folder):
    Path("schema.json").write_text('{"properties": {"size": {"type": "number"}}}')
    message = refusal(rows(row_4="1,Bonn,"), schema="schema.json")
    assert "row 4: column 'kind': nothing, expected a value: it is the target" in message


def test_duplicate_columns(folder):
    message = refusal(rows(row_1="size,size,kind"))
    assert "has duplicate columns: 'size' is columns 1 and 2." in message


def test_one_class(folder):
    assert refusal(rows().replace(",b\n", ",a\n")) == (
        "Column 'kind' has one class, 'a', in all 12 rows: there is nothing to learn. "
        "Choose another target_column, or add rows that differ."
    )


def test_constant_number(folder):
    content = "x,kind\n" + "".join(f"{i},2.5\n" for i in range(9))
    assert "Column 'kind' has one value, 2.5, in all 9 rows" in refusal(content)


def test_class_with_one_sample(folder):
    assert refusal(rows(row_4="1,Bonn,c")).startswith(
        "1 class has one sample only: 'c' (row 4). One sample cannot be both learned and tested."
    )


def test_class_that_train_does_not_have(folder):
    content = "x,part,kind\n" + "".join(
        f"{i},{'train' if i < 8 else 'val' if i < 10 else 'test'},{'ab'[i % 2]}\n"
        for i in range(12)
    )
    content = content.replace("11,test,b", "11,test,c")
    assert refusal(content, split={"method": "column", "column": "part"}) == (
        "Class 'c' (row 13) is in test but in no row of train, so it cannot be learned. Give the "
        "class more rows, remove it, or deal the rows by another split.method (stratified keeps "
        "every class)."
    )


def test_too_few_rows(folder):
    assert refusal("x,kind\n1,a\n2,b\n").startswith("2 samples cannot fill train, validation")


def test_ragged_rows(folder):
    assert "row 4: 2 cells, expected 3: '1,2'" in refusal(rows(row_4="1,2"))
    assert "2 of 2 rows have more or fewer cells" in refusal("x,kind\n1,2,3\n4,5,6\n")


def test_wrong_encoding(folder):
    Path("table.csv").write_bytes(rows().replace("Trier", "Köln").encode("latin-1"))
    with pytest.raises(DataError, match=r"row 2 is not utf-8 text: .*Set encoding: cp1252"):
        check_table(TabularData(path="table.csv", target_column="kind"))


def test_wrong_delimiter(folder):
    assert 'Set delimiter: ";".' in refusal(rows().replace(",", ";"))


def test_one_bad_cell_in_200_columns(folder):
    names = [f"column_{index}" for index in range(200)]
    lines = [",".join([*names, "kind"])]
    lines += [",".join([*map(str, range(200)), "ab"[row % 2]]) for row in range(100)]
    lines[77] = lines[77].replace(",137,", ",13T,")
    assert refusal("\n".join(lines)) == (
        "table.csv: 1 of 100 rows cannot be used, which is more than tolerance: 0 allows (row 1 "
        "is the header):\n"
        "  row 78: column 'column_137': '13T', expected a number\n"
        "Fix them, or set tolerance: 0.01 to leave them out. "
        "If '13T' in column 'column_137' means no value, add it to missing_values."
    )


def test_header_against_the_schema(folder):
    Path("schema.json").write_text('{"required": ["weight"], "properties": {"size": {}}}')
    assert refusal(rows(), schema="schema.json") == (
        "table.csv does not fit its schema:\n  the header, column 'weight': nothing, expected a "
        "column of this name, which is required."
    )


@pytest.mark.parametrize(
    ("split", "cell", "message"),
    [
        ("time", "", "row 4: column 'town': nothing, expected a value: the split rule needs it"),
        ("time", "soon", "row 4: column 'town': 'soon', expected a date (YYYY-MM-DD)"),
        ("grouped", "", "row 4: column 'town': nothing, expected a value: the split rule needs it"),
    ],
)
def test_split_cells(folder, split, cell, message):
    content = "size,town,kind\n" + "".join(
        f"{day},2024-01-{day:02d},{'ab'[day % 2]}\n" for day in range(1, 20)
    )
    content = content.replace("3,2024-01-03,", f"3,{cell},")
    assert message in refusal(content, split={"method": split, "column": "town"})


# The report


def test_report(folder):
    content = "x,day,word,kind\n" + "".join(
        f"{i},2024-01-{i + 1:02d},{'uvw'[i % 3]},{'ab'[i % 2]}\n" for i in range(30)
    )
    report = check(content.replace("\n4,", "\nNA,"))
    json.dumps(report.summary, allow_nan=False)
    assert report.source == "table.csv"
    assert report.num_samples == 30
    assert report.summary["rows"] == 30
    assert report.summary["splits"] == {"train": 21, "valid": 5, "test": 4}
    number, date, category = report.summary["columns"]
    assert (number["name"], number["kind"], number["missing"]) == ("x", "number", 1)
    assert (number["min"], number["median"], number["max"]) == (0, 15, 29)
    assert sum(number["histogram"]["counts"]) == 29
    assert (date["kind"], date["min"], date["max"]) == (
        "date",
        "2024-01-01T00:00:00",
        "2024-01-30T00:00:00",
    )
    assert (category["distinct"], category["top"]) == (3, [["u", 10], ["v", 10], ["w", 10]])
    assert report.summary["target"] == {
        "name": "kind",
        "kind": "class",
        "counts": {"a": 15, "b": 15},
    }


def test_report_of_a_number_target(folder):
    content = "x,kind\n" + "".join(f"{i},{i / 2}\n" for i in range(30))
    target = check(content).summary["target"]
    assert (target["kind"], target["min"], target["max"]) == ("number", 0, 14.5)
