"""What the two errors of the package are."""

import signal
from pathlib import Path

import pytest

from paraformer_asr.errors import AsrError, Stopped


def test_a_mistake_is_a_value_error_with_its_text():
    assert issubclass(AsrError, ValueError)
    assert str(AsrError("a.csv:3: no text.")) == "a.csv:3: no text."


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_says_how_to_go_on_and_ends_as_shells_expect(number, code):
    stopped = Stopped(Path("runs/a"), 7, number)
    assert stopped.exit_code == code
    assert (stopped.run, stopped.step) == (Path("runs/a"), 7)
    assert str(stopped) == (
        "stopped after step 7; resume with: python -m paraformer_asr train --resume runs/a"
    )
    assert not isinstance(stopped, ValueError)  # nothing that handles mistakes may swallow it
