"""Other labelled tables are read as the training table was, whatever their own cells suggest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from maquette.errors import DataError
from maquette.recipe import make_recipe
from maquette.tasks.tabular.task import TabularTask

ROWS = [f"{20 + i % 9}.03.2024,{i},{'red' if i % 3 else 'blue'},{'ab'[i % 2]}" for i in range(40)]


@pytest.fixture
def trained(tmp_path: Path):
    """A task and its preprocessor, fitted on dates with the day first."""
    table = tmp_path / "train.csv"
    table.write_text("\n".join(["day,size,colour,kind", *ROWS]), encoding="utf-8")
    task = TabularTask(
        make_recipe(
            {
                "name": "labelled",
                "data": {"tabular": {"path": str(table), "target_column": "kind"}},
                "model": {"type": "tabular", "name": "mlp"},
            }
        )
    )
    return task, task.fit_preprocessor(task.load().train)


def read(trained, tmp_path: Path, *lines: str):
    path = tmp_path / "other.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    task, preprocessor = trained
    return task.load_labelled(str(path), preprocessor)


def test_columns_keep_the_kinds_and_the_date_order_of_training(trained, tmp_path):
    """Alone, 04.03.2024 could be April and 7 a number; the model knows better."""
    samples = read(trained, tmp_path, "colour,kind,extra,size,day", "7,a,x,1,04.03.2024")
    assert samples.dates["day"][0] == np.datetime64("2024-03-04", "ms")
    assert samples.categories["colour"].tolist() == ["7"]
    assert samples.columns == ("day", "size", "colour"), "the order of training, extras left out"
    task, preprocessor = trained
    assert len(task.prepare(samples, preprocessor, augment=False)) == 1


def test_one_class_is_enough_but_an_unknown_one_is_refused(trained, tmp_path):
    header = "day,size,colour,kind"
    assert len(read(trained, tmp_path, header, *["21.03.2024,1,red,a"] * 3)) == 3
    with pytest.raises(DataError, match=r"row 2: class 'c' in column 'kind' .* classes are a, b"):
        read(trained, tmp_path, header, "21.03.2024,1,red,c")


def test_missing_columns_and_cells_that_do_not_fit(trained, tmp_path):
    with pytest.raises(DataError, match=r"no column 'size', which the model .*mean 'sise'"):
        read(trained, tmp_path, "day,sise,colour,kind", "21.03.2024,1,red,a")
    with pytest.raises(DataError, match=r"row 2: column 'size': 'big', expected a number"):
        read(trained, tmp_path, "day,size,colour,kind", "21.03.2024,big,red,a")
