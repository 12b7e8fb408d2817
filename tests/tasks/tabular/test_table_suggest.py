"""`maquette init` on tables: what is decided, and that the recipe works as it is."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from maquette.errors import DataError, UsageError
from maquette.recipe import Recipe, read_recipe
from maquette.recipe.schema import TabularData
from maquette.tasks.tabular.data import check_table
from maquette.tasks.tabular.suggest import suggest_recipe

ROOT = Path(__file__).resolve().parents[3]


def suggest(folder: Path, content: str | bytes, target: str | None = None) -> tuple[str, Recipe]:
    table = folder / "table.csv"
    table.write_bytes(content.encode() if isinstance(content, str) else content)
    return accept(folder, suggest_recipe(table, target=target))


def accept(folder: Path, text: str) -> tuple[str, Recipe]:
    """The text is a recipe, and its data pass the check."""
    recipe_file = folder / "recipe.yaml"
    recipe_file.write_text(text, encoding="utf-8")
    recipe = read_recipe(recipe_file)
    assert recipe.data.tabular is not None
    check_table(recipe.data.tabular)
    return text, recipe


def rows(header: str, line: str, count: int = 60) -> str:
    cells = [line.format(i=i, two=i % 2, three=i % 3, half=i / 2) for i in range(count)]
    return "\n".join([header, *cells]) + "\n"


def test_iris(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    text, recipe = accept(tmp_path, suggest_recipe(Path("data/sample/iris.csv"), target="species"))
    assert text.startswith(
        "# Written by: maquette init data/sample/iris.csv --target species\n"
        "# Save it as recipe.yaml and run: maquette train recipe.yaml\n"
        "# 150 rows, 5 columns.\n"
        "name: iris\n"
        "data:\n"
        "  tabular:\n"
        "    path: data/sample/iris.csv\n"
        "    target_column: species  # as asked\n"
        "    target_type: class  # 3 classes: setosa (50), versicolor (50), virginica (50)\n"
        "    # Columns as they will be read (text columns are categories):\n"
        "    #   sepal_length: number, 4.3 to 7.9\n"
    )
    assert "method: stratified" in text
    assert recipe.model.architecture.hidden_layers == (64, 32)


def test_regression(tmp_path):
    text, recipe = suggest(tmp_path, rows("x,price", "{i},{half}"))
    assert "target_column: price  # guessed: it is the last column; --target COLUMN" in text
    assert "target_type: number  # 0 to 29.5" in text
    assert recipe.data.tabular.split.method == "random"


def test_a_rare_whole_number_is_no_class(tmp_path):
    content = rows("x,grade", "{half},{three}") + "1,9\n"
    assert "target_type: number  # 0 to 9" in suggest(tmp_path, content)[0]


def test_target_by_name(tmp_path):
    text, _ = suggest(tmp_path, rows("Label,x", "{two},{half}"))
    assert "target_column: Label  # guessed: a column named 'Label' usually is the target" in text


def test_target_that_varies(tmp_path):
    text, recipe = suggest(tmp_path, rows("x,kind,note,day", "{half},{two},same,note {i}"))
    assert "target_column: kind  # guessed: it is the last that varies" in text
    assert recipe.data.tabular.ignore_columns == ("note", "day")
    assert "- note  # the same in every row" in text
    assert "- day  # every row has another text" in text


def test_identifiers_and_groups(tmp_path):
    lines = [f"{i},p{i // 2 if i < 40 else i},{i % 5},{i % 2}" for i in range(60)]
    text, recipe = suggest(tmp_path, "\n".join(["row id,patient,x,kind", *lines]))
    assert recipe.data.tabular.ignore_columns == ("row id", "patient")
    assert "- row id  # it counts the rows" in text
    assert "# Rows of one thing together: {method: grouped, column: patient}" in text


def test_decimal_commas_are_pointed_out(tmp_path):
    text, _ = suggest(tmp_path, rows("x;y;kind", "{two},{three};{half};{two}"))
    assert "- x  # numbers with a decimal comma read as text; write them with a point to" in text


def test_dates_suggest_a_split_by_time(tmp_path):
    text, _ = suggest(tmp_path, rows("day,x,kind", "2024-01-1{three},{half},{two}"))
    assert "#   day: date, 2024-01-10 to 2024-01-12" in text
    assert "# The latest rows to test: {method: time, column: day}" in text


def test_categories(tmp_path):
    text, recipe = suggest(tmp_path, rows("town,x,kind", "t{three},{half},{two}"))
    assert "#   town: category, 3 categories: t0, t1, t2" in text
    assert "categorical_encoding: onehot  # 3 categories in all" in text
    lines = [f"t{i % 60},{i / 2},{i % 2}" for i in range(300)]
    text, recipe = suggest(tmp_path, "\n".join(["town,x,kind", *lines]))
    assert recipe.data.tabular.preprocessing.categorical_encoding == "embedding"


def test_spelling_of_the_file(tmp_path):
    content = rows("größe;kind", "{half};k{two}").encode("cp1252")
    _, recipe = suggest(tmp_path, content)
    assert (recipe.data.tabular.delimiter, recipe.data.tabular.encoding) == (";", "cp1252")
    tabs = rows("x\tkind", "{half}\tk{two}")
    assert suggest(tmp_path, tabs)[1].data.tabular.delimiter == "\t"


def test_missing_marks_and_rows_without_a_target(tmp_path):
    content = rows("x,kind", "{half},k{two}") + "-,k1\n-,k0\n1,\n"
    text, recipe = suggest(tmp_path, content)
    assert recipe.data.tabular.missing_values[-1] == "-"
    assert "tolerance: 0.0159  # sets 1 rows aside; see maquette check" in text


def test_slips_are_no_missing_marks(tmp_path):
    """One odd cell, a unit written into numbers, and a header in mid-file are left for `check`."""
    good = rows("x,kind", "{half},k{two}")
    usual = TabularData.model_fields["missing_values"].default
    for slip in ("abc,k1\n", "4.5 cm,k1\n4.5 cm,k0\n", "x,kind\nx,kind\n"):
        recipe = suggest(tmp_path, good + slip)[1]
        assert recipe.data.tabular.missing_values == usual
        assert recipe.data.tabular.tolerance > 0


def test_bad_cells_are_set_aside(tmp_path):
    content = rows("x,kind", "{half},k{two}") + "abc,k1\ndef,k0\n"
    assert suggest(tmp_path, content)[1].data.tabular.tolerance == pytest.approx(2 / 62, abs=1e-3)


def test_a_class_with_one_row_is_pointed_out(tmp_path):
    (tmp_path / "table.csv").write_text(rows("x,kind", "{half},k{two}") + "1,rare\n")
    text = suggest_recipe(tmp_path / "table.csv", target=None)
    assert "# Before training, merge or remove the classes with one row: rare" in text


def test_a_leak_is_pointed_out(tmp_path):
    text, _ = suggest(tmp_path, rows("copy,x,kind", "c{two},{half},k{two}"))
    assert "#   copy: category, 2 categories: c0, c1 (tells the target exactly: is it kno" in text


def test_names_that_need_quotes(tmp_path):
    content = rows('"yes: no","# x","1",kind', "{half},{two},{three},{two}")
    text, recipe = suggest(tmp_path, content, target="yes: no")
    assert recipe.data.tabular.target_column == "yes: no"
    assert 'target_column: "yes: no"' in text


@pytest.mark.parametrize(
    ("num_rows", "layers", "batch"),
    [(60, (64, 32), 16), (2_000, (128, 64), 64), (20_000, (256, 128), 256)],
)
def test_sizes_grow_with_the_rows(tmp_path, num_rows, layers, batch):
    _, recipe = suggest(tmp_path, rows("x,kind", "{half},k{two}", num_rows))
    assert recipe.model.architecture.hidden_layers == layers
    assert recipe.training.batch_size == batch
    assert recipe.data.tabular.preprocessing.scaling == (
        "quantile" if num_rows > 60 else "standard"
    )


def test_parquet(tmp_path):
    path = tmp_path / "my table (1).parquet"
    pyarrow.parquet.write_table(
        pa.table({"x": [i / 2 for i in range(40)], "kind": ["a", "b"] * 20}), path
    )
    text, recipe = accept(tmp_path, suggest_recipe(path, target=None))
    assert recipe.name == "my-table-1"
    assert f"maquette init '{path}'" in text


def test_every_column_ignorable(tmp_path):
    _, recipe = suggest(tmp_path, rows("n,kind", "{i},{two}"))
    assert recipe.data.tabular.ignore_columns == ()


def test_unknown_target(tmp_path):
    with pytest.raises(UsageError) as caught:
        suggest(tmp_path, rows("x,kind", "{half},{two}"), target="kinds")
    assert str(caught.value).replace(str(tmp_path), "") == (
        "/table.csv has no column 'kinds' to predict. Did you mean 'kind'? Its columns: x, kind."
    )


def test_one_column(tmp_path):
    with pytest.raises(
        DataError, match=r"has one column, 'kind'; a model needs a target and at le"
    ):
        suggest(tmp_path, "kind\na\nb\n")


def test_no_possible_target(tmp_path):
    with pytest.raises(DataError, match=r"has no column that could be predicted: each is an ident"):
        suggest(tmp_path, rows("n,same", "{i},x"))


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"There is no file "):
        suggest_recipe(tmp_path / "none.csv", target=None)


def test_empty_file(tmp_path):
    with pytest.raises(DataError, match=r"table\.csv is empty"):
        suggest(tmp_path, "")
