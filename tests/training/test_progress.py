"""What a person sees: the line, when it is printed, and on a terminal."""

import io
import time

import pytest

from maquette.training.callbacks import View
from maquette.training.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def view(step: int = 50, *, history: bool = True) -> View:
    return View(
        epoch=3,
        epochs=10,
        step=step,
        total_steps=200,
        seconds=2.0,
        samples_per_second=12345.6,
        learning_rate=0.1,
        train_loss=0.41239,
        history=[{"valid/accuracy": 0.9134}] if history else [],
    )


def test_the_line_names_epoch_loss_metric_and_rate() -> None:
    progress = Progress(monitor="valid/accuracy", stream=io.StringIO())
    assert progress.describe(view(200)) == (
        "epoch 3/10  loss 0.4124  valid/accuracy 0.9134  12,346 samples/s"
    )
    assert "valid/accuracy" not in progress.describe(view(history=False))
    assert "ETA" in progress.describe(view(50))
    assert "ETA" not in progress.describe(view(50), ended=True)  # stopped early


@pytest.mark.parametrize(("elapsed", "shown"), [(10, "0:30"), (100, "5:00"), (4000, "3:20:00")])
def test_the_time_left_is_in_proportion(elapsed: float, shown: str) -> None:
    progress = Progress(monitor="valid/accuracy", stream=io.StringIO())
    progress._first_step, progress._started = 0, time.monotonic() - elapsed
    assert progress.describe(view(50)).endswith(f"ETA {shown}")


def test_a_log_file_gets_a_line_every_few_seconds_and_one_at_the_end() -> None:
    stream = io.StringIO()
    progress = Progress(monitor="valid/accuracy", stream=stream)
    progress.on_step(view())
    progress.on_epoch_end(view())
    assert stream.getvalue() == ""

    progress._last_line -= 10
    progress.on_step(view(100))
    progress.on_end(view(200))

    assert [line[:10] for line in stream.getvalue().splitlines()] == ["epoch 3/10"] * 2


def test_a_terminal_gets_one_live_line_which_closing_ends() -> None:
    stream = Terminal()
    progress = Progress(monitor="valid/accuracy", stream=stream)
    progress.on_step(view(20))
    progress.on_end(view(200))
    progress.close()
    assert "valid/accuracy 0.9134" in stream.getvalue()
    assert progress._live is None
