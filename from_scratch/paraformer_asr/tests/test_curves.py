"""metrics.csv becomes pictures; what is no metrics.csv is named with its line."""

from pathlib import Path

import pytest
from matplotlib.image import imread

from paraformer_asr.curves import draw_comparison, draw_curves, read_series
from paraformer_asr.errors import AsrError

HEADER = (
    "step,lr,loss,ce,quantity,ctc,mwer,grad_norm,accuracy,utterances_per_second,"
    "valid_loss,valid_cer,valid_count_error\n"
)


def write(run: Path, *rows: str) -> Path:
    (run / "metrics.csv").write_text(HEADER + "".join(f"{row}\n" for row in rows), "utf-8")
    return run


def is_picture(path: Path) -> bool:
    """Readable, and not one colour."""
    pixels = imread(path)
    return pixels.ndim == 3 and float(pixels.std()) > 0.01


def test_series_hold_a_point_for_each_cell_that_has_a_value(tmp_path):
    write(tmp_path, "1,0.1,5,4,1,,,2,0,9,,,", "2,0.2,3,2,1,,,1,0.5,9,2.5,0.25,0.125")
    series = read_series(tmp_path / "metrics.csv")
    assert series["loss"] == [(1, 5), (2, 3)]
    assert series["valid_cer"] == [(2, 0.25)]
    assert series["ctc"] == []
    assert "step" not in series


def test_a_run_gets_its_picture(tmp_path):
    write(tmp_path, "1,0.1,5,4,1,7,,2,0,9,,,", "2,0.2,3,2,1,6,,1,0.5,9,2.5,0.25,0.1")
    path = draw_curves(tmp_path)
    assert path == tmp_path / "curves.png"
    assert is_picture(path)


@pytest.mark.parametrize("rows", [(), ("1,0.1,0,0,0,,,2,0,9,,,",), ("1,,,,,,,,,,,,",)])
def test_a_run_with_little_to_draw_is_drawn_too(tmp_path, rows):
    assert is_picture(draw_curves(write(tmp_path, *rows)))


def test_a_line_that_was_cut_off_when_the_run_was_killed_is_left_out(tmp_path):
    path = write(tmp_path, "1,0.1,5,4,1,,,2,0,9,,,") / "metrics.csv"
    path.write_text(path.read_text("utf-8") + "2,0.1,4.8", "utf-8")
    assert read_series(path)["loss"] == [(1, 5)]


def test_other_columns_are_no_obstacle(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,own\n1,2\n", "utf-8")
    assert read_series(tmp_path / "metrics.csv") == {"own": [(1, 2)]}
    assert is_picture(draw_curves(tmp_path))


def test_a_run_without_metrics_is_named(tmp_path):
    with pytest.raises(AsrError) as caught:
        draw_curves(tmp_path)
    path = tmp_path / "metrics.csv"
    assert (
        str(caught.value) == f"{path}: there is no such file; a run writes it when it first logs."
    )


@pytest.mark.parametrize("row", ["3,0.1,five,4,1,,,2,0,9,,,", "3,0.1,5", ",0.1,5,4,1,,,2,0,9,,,"])
def test_a_damaged_line_is_named(tmp_path, row):
    write(tmp_path, "1,0.1,5,4,1,,,2,0,9,,,", row)
    with pytest.raises(AsrError) as caught:
        draw_curves(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / 'metrics.csv'}:3: a cell is missing or no number; delete the line."
    )
    assert not (tmp_path / "curves.png").exists()


def test_a_file_of_something_else_is_named(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("", "utf-8")
    with pytest.raises(AsrError, match=r"metrics\.csv: has no column 'step' in its first line\."):
        read_series(path)
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(AsrError, match=r"metrics\.csv: no CSV file \("):
        read_series(path)


def test_groups_are_drawn_beside_each_other(tmp_path):
    curves = {"small": [[(1, 0.5), (2, 0.25)], []], "large": [[(1, 0.5)]], "none": [[]]}
    scores = {"small": [0.25, 0.5], "large": [0.5], "none": []}
    path = draw_comparison(curves, scores, tmp_path / "comparison.png", score="test/cer")
    assert is_picture(path)


def test_long_names_leave_room_for_the_curves(tmp_path):
    names = [f"{digit} " + "train.init_from=runs/20260131-142501-x " * 4 for digit in "0123"]
    curves = {name: [[(1, 0.5), (2, 0.25)]] for name in names}
    path = tmp_path / "comparison.png"
    draw_comparison(curves, {name: [0.5] for name in names}, path, score="test/cer")
    assert is_picture(path)  # a picture without room is a warning, and warnings are errors here
