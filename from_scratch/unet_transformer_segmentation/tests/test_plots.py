"""Plots: files are whole, curves show what is in the table, and odd tables still draw."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from unet_seg import plots
from unet_seg.plots import column, draw_comparison, draw_curves, new_figure, save_figure

HEAD = "step,lr,train/loss,valid/loss,valid/mean_iou,valid/iou/background,valid/iou/ring\n"


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved, to look at their axes."""
    figures = []

    def save(figure, path):
        figures.append(figure)
        save_figure(figure, path)

    monkeypatch.setattr(plots, "save_figure", save)
    return figures


def write(run: Path, text: str) -> Path:
    run.mkdir(exist_ok=True)
    (run / "metrics.csv").write_text(text)
    return run


def lines(axis) -> dict[str, list[tuple[float, float]]]:
    return {
        line.get_label(): [*map(tuple, line.get_xydata().tolist())] for line in axis.get_lines()
    }


def test_curves_show_the_table(tmp_path, drawn):
    run = write(tmp_path, HEAD + "1,0.1,2.0,,,,\n2,0.2,1.5,1.8,0.5,0.8,0.2\n")
    assert draw_curves(run) == run / "curves.png"
    with Image.open(run / "curves.png") as picture:
        assert picture.format == "PNG"
    losses, ious, rates = drawn[0].axes
    assert lines(losses) == {"train/loss": [(1, 2.0), (2, 1.5)], "valid/loss": [(2, 1.8)]}
    assert lines(ious) == {"background": [(2, 0.8)], "ring": [(2, 0.2)], "mean": [(2, 0.5)]}
    assert [*lines(rates).values()] == [[(1, 0.1), (2, 0.2)]]
    assert losses.get_ylim()[0] == 0


def test_a_loss_below_zero_is_seen(tmp_path, drawn):
    draw_curves(write(tmp_path, HEAD + "1,0.1,0.5,,,,\n2,0.1,-0.5,,,,\n"))
    assert drawn[0].axes[0].get_ylim()[0] < -0.5


def test_a_run_without_rows_draws_empty_axes(tmp_path, drawn):
    assert draw_curves(write(tmp_path, HEAD)).is_file()
    assert all(points == [] for points in lines(drawn[0].axes[0]).values())


def test_a_column_has_the_steps_where_it_has_a_value():
    rows = [{"step": "1", "a": "2.5"}, {"step": "2", "a": ""}, {"step": "3", "a": "1e-3"}]
    assert column(rows, "a") == ([1, 3], [2.5, 0.001])
    assert column(rows, "b") == ([], [])


def test_runs_side_by_side(tmp_path, drawn):
    runs = [write(tmp_path / f"r{i}", HEAD + f"4,,,,0.{i},,\n") for i in (1, 2, 3)]
    long_name = "x" * 60
    draw_comparison(
        {"a": runs[:2], long_name: runs[2:], "none": []},
        {"a": [0.1, 0.2], long_name: [0.3], "none": [None]},
        tmp_path / "comparison.png",
    )
    ends, steps = drawn[0].axes
    courses = [points for points in lines(steps).values() if points]
    assert sorted(courses) == [[(4, 0.1)], [(4, 0.2)], [(4, 0.3)]]
    assert [text.get_text() for text in ends.get_yticklabels()] == ["a", "x" * 39 + "…", "none"]
    means = [line.get_xydata().tolist() for line in ends.get_lines() if line.get_marker() == "|"]
    assert means == [[[pytest.approx(0.15), 0]], [[0.3, 1]]]


def test_more_runs_than_colours_are_shown_by_their_ends_alone(tmp_path, drawn):
    run = write(tmp_path / "r", HEAD + "4,,,,0.5,,\n")
    names = [f"variant {i}" for i in range(9)]
    draw_comparison(
        {name: [run] for name in names}, {name: [0.5] for name in names}, tmp_path / "c.png"
    )
    (ends,) = drawn[0].axes
    assert [text.get_text() for text in ends.get_yticklabels()] == names


def test_a_picture_is_written_whole_or_not_at_all(tmp_path):
    figure, axes = new_figure(2, 1, columns=2)
    assert len(axes) == 2
    path = tmp_path / "x.png"
    save_figure(figure, path)
    before = path.read_bytes()
    figure.savefig = lambda name, **_: Path(name).write_bytes(b"half") and 1 / 0
    with pytest.raises(ZeroDivisionError):
        save_figure(figure, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]
