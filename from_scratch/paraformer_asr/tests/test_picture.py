"""Pictures of what the model did: the line of integrated weight, the words, and whole PNG files."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from untrained import png_size

from paraformer_asr.picture import View, draw, plural, sawtooth, sentence, shorten


def view_of(alphas: list[float], tokens: str, **changes: object) -> View:
    """A view of so many frames; each token takes an equal part of the time."""
    weights = np.array(alphas, dtype=np.float32)
    step = 0.02
    part = len(weights) * step / max(len(tokens), 1)
    view = View(
        title="utterance",
        frames=np.random.default_rng(0).normal(size=(2 * len(weights), 8)).astype(np.float32),
        frame_seconds=0.01,
        alphas=weights,
        step_seconds=step,
        tokens=list(tokens),
        times=[(k * part, (k + 1) * part) for k in range(len(tokens))],
        tail=0.45,
        attention=np.full((len(tokens), len(weights)), 1 / len(weights), dtype=np.float32),
        text=tokens,
    )
    return replace(view, **changes)  # type: ignore[arg-type]


def test_the_line_rises_to_one_at_every_fire_and_falls_to_zero_there():
    alphas = np.random.default_rng(3).uniform(0, 0.6, 50).astype(np.float32)
    times, values = sawtooth(alphas, 0.01)
    ends = np.concatenate([[0], np.cumsum(alphas, dtype=np.float64)])
    goals = np.arange(1, int(ends[-1]) + 1)
    expected = np.interp(goals, ends, np.arange(51)) * 0.01

    assert (np.diff(times) >= 0).all()
    np.testing.assert_allclose(times[values == 1], expected, atol=1e-5)
    after = np.flatnonzero(values == 1) + 1
    assert (values[after] == 0).all()
    np.testing.assert_allclose(times[after], times[after - 1])
    assert values[-1] == pytest.approx(alphas.sum(dtype=np.float64) % 1, abs=1e-5)


def test_the_line_fires_twice_in_a_frame_whose_weight_is_above_two():
    times, values = sawtooth(np.array([0.5, 2.0], dtype=np.float32), 1.0)
    np.testing.assert_allclose(times[values == 1], [1.25, 1.75])
    np.testing.assert_allclose((times[-1], values[-1]), (2.0, 0.5))


@pytest.mark.parametrize("count", [1, 3, 10])
def test_the_line_of_weights_that_sum_to_a_whole_number_fires_that_often(count: int):
    alphas = np.full(10 * count, 0.1, dtype=np.float32)
    _, values = sawtooth(alphas, 0.01)
    assert (values == 1).sum() == count


def test_no_frames_and_no_weight_give_a_flat_line():
    times, values = sawtooth(np.zeros(0, dtype=np.float32), 0.01)
    assert times.tolist() == [0.0]
    assert values.tolist() == [0.0]
    assert not sawtooth(np.zeros(5, dtype=np.float32), 0.01)[1].any()


def test_the_words_say_why_there_is_no_token():
    assert sentence(view_of([0.1, 0.2], "")) == (
        "no token: the sum of alphas is 0.30, and the first token needs 0.55"
    )


def test_the_words_count_tokens_and_special_ones():
    assert sentence(view_of([0.5, 0.6], "a")) == "sum of alphas 1.10 gives 1 token"
    assert sentence(view_of([1.0] * 3, "ab")) == (
        "sum of alphas 3.00 gives 3 tokens, 1 special and left out"
    )
    assert sentence(view_of([1.0] * 2, "")) == (
        "sum of alphas 2.00 gives 2 tokens, 2 special and left out"
    )


def test_several_views_stand_side_by_side_also_without_tokens_or_attention(tmp_path: Path):
    one = view_of([0.25] * 20, "abcde", reference="abcd")
    none = view_of([0.0] * 20, "", reference="")
    bare = view_of([0.25] * 20, "abcde", attention=None)

    draw([one], tmp_path / "one.png")
    draw([one, none, bare], tmp_path / "three.png")

    narrow, wide = png_size(tmp_path / "one.png"), png_size(tmp_path / "three.png")
    assert wide[0] == 3 * narrow[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one.png", "three.png"]


def test_a_hundred_tokens_and_a_single_frame_can_be_drawn(tmp_path: Path):
    draw([view_of([0.5] * 200, "x" * 100)], tmp_path / "many.png")
    draw([view_of([0.0], "")], tmp_path / "short.png")
    assert png_size(tmp_path / "many.png")[1] > png_size(tmp_path / "short.png")[1]


def test_texts_with_formula_signs_and_unknown_letters_are_drawn_as_they_are(tmp_path: Path):
    odd = "$x_{$ \\frac 你好 \U0001f600"
    draw([view_of([1.0] * 4, "$你_\\", title=odd, text=odd)], tmp_path / "odd.png")
    png_size(tmp_path / "odd.png")


def test_the_picture_does_not_change_settings_of_matplotlib(tmp_path: Path):
    import matplotlib

    before = {name: str(matplotlib.rcParams[name]) for name in matplotlib.rcParams}
    draw([view_of([0.5] * 4, "ab")], tmp_path / "x.png")
    assert {name: str(matplotlib.rcParams[name]) for name in matplotlib.rcParams} == before


def test_matplotlib_is_not_imported_before_something_is_drawn():
    code = "import sys, paraformer_asr.picture; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_long_texts_are_cut_and_plurals_are_right():
    assert shorten("a\nb  c") == "a b c"
    assert shorten("x" * 100, 10) == "x" * 9 + "…"
    assert plural(1, "token") == "1 token"
    assert plural(0, "token") == "0 tokens"
