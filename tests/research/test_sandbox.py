"""Programs that hang, take too much, leave children or are interrupted: real ones, watched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import psutil
import pytest
from sandbox_cases import watched

from maquette.errors import RunError, UsageError
from maquette.research.running.processes import Tree
from maquette.research.running.sandbox import GUARD, Limits, run_watched

MB = 10**6
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells this")


def is_running(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def ends(pid: int) -> bool:
    """Whether a process ends within a while."""
    until = time.monotonic() + 20
    while is_running(pid) and time.monotonic() < until:
        time.sleep(0.05)
    return not is_running(pid)


def wait_for(file: Path) -> str:
    """Return what a file says once it says something."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if file.is_file() and file.read_text():
            return file.read_text()
        time.sleep(0.05)
    raise AssertionError(f"{file} did not appear")


def test_a_program_that_ends_well(tmp_path):
    code = """
        import os, sys
        print("argv", sys.argv, sys.path[0] == os.getcwd(), __name__)
        print("größe", os.environ["COLOUR"], "PYTHONPATH" in os.environ, file=sys.stderr)
    """
    seen = watched(tmp_path, code, "--epochs", "2", environment={"COLOUR": "blue"})
    assert (seen.exit_code, seen.ended) == (0, "exit")
    assert seen.command == (sys.executable, "run.py", "--epochs", "2")
    assert seen.stdout_tail == "argv ['run.py', '--epochs', '2'] True __main__\n"
    assert seen.stderr_tail.startswith("größe blue")
    assert (tmp_path / "seen" / "stdout.txt").read_text() == seen.stdout_tail
    assert 0 < seen.seconds < 280
    assert seen.peak_bytes > 5 * MB
    assert seen.observed
    assert seen.steps == 0
    assert seen.gpu_peak_bytes is None
    assert (seen.wrote_outside, seen.bad_gradients, seen.bad_losses) == ((), (), ())


def test_the_exit_code_and_the_end_of_the_output_are_kept(tmp_path):
    code = "import sys\nfor number in range(5000): print(number)\nsys.exit(3)"
    seen = watched(tmp_path, code)
    assert (seen.exit_code, seen.ended) == (3, "exit")
    assert seen.stdout_tail.endswith("4998\n4999\n")
    assert len(seen.stdout_tail) == 8000


def test_an_import_error_shows_only_the_programs_own_frames(tmp_path):
    seen = watched(tmp_path, "import os\nimport no_such_library\n")
    assert seen.exit_code == 1
    lines = seen.stderr_tail.splitlines()
    assert lines[-1] == "ModuleNotFoundError: No module named 'no_such_library'"
    assert [line for line in lines if "File" in line] == ['  File "run.py", line 2, in <module>']


def test_nothing_printed_is_nothing_seen(tmp_path):
    seen = watched(tmp_path, "value = 1\n")
    assert (seen.exit_code, seen.stdout_tail, seen.stderr_tail) == (0, "", "")


def test_a_question_finds_no_answer_instead_of_hanging(tmp_path):
    seen = watched(tmp_path, "input('Continue? ')")
    assert seen.exit_code == 1
    assert "EOFError" in seen.stderr_tail


def test_a_program_that_hangs_is_ended(tmp_path):
    seen = watched(tmp_path, "import time\ntime.sleep(3600)\n", limits=Limits(seconds=1))
    assert (seen.exit_code, seen.ended) == (None, "time_limit")
    assert 1 <= seen.seconds < 30


HANGING = """
    import time
    def wait_for_ever():
        open("pid", "w").write("here")
        time.sleep(3600)
    wait_for_ever()
"""
DEAF = """
    import signal, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    open("pid", "w").write("here")
    while True: time.sleep(1)
"""


def asked_to_end(folder: Path, code: str) -> tuple[Tree, str]:
    """Start a guarded program, ask it to end once it is busy, and return its last words."""
    (folder / "run.py").write_text(dedent(code))
    guarded = [sys.executable, str(GUARD), "--report", str(folder / "report")]
    with (folder / "out").open("wb") as out, (folder / "error").open("wb") as error:
        tree = Tree(
            [*guarded, "--allowed", str(folder), "--", "run.py"],
            cwd=folder,
            environment=os.environ,
            stdout=out,
            stderr=error,
        )
        wait_for(folder / "pid")
        tree.ask_to_end()
    return tree, (folder / "error").read_text()


def test_a_program_asked_to_end_shows_where_it_was(tmp_path):
    tree, words = asked_to_end(tmp_path, HANGING)
    tree.end()
    assert 'File "run.py", line 5 in wait_for_ever' in words
    assert tree.program.returncode == -signal.SIGTERM


def test_a_program_that_will_not_end_is_ended(tmp_path):
    tree, _ = asked_to_end(tmp_path, DEAF)
    assert is_running(tree.program.pid)
    tree.end()
    assert not is_running(tree.program.pid)
    assert tree.program.returncode == -signal.SIGKILL


def test_a_program_that_eats_memory_is_ended(tmp_path):
    code = """
        eaten = []
        while True:
            eaten.append(bytearray(b"x" * 5_000_000))
    """
    seen = watched(tmp_path, code, limits=Limits(seconds=60, memory_bytes=300 * MB))
    assert (seen.exit_code, seen.ended) == (None, "memory_limit")
    assert seen.peak_bytes > 300 * MB


def test_memory_is_that_of_all_children(tmp_path):
    code = """
        import subprocess, sys
        eat = "import time; eaten = b'x' * 120_000_000; time.sleep(60)"
        children = [subprocess.Popen([sys.executable, "-c", eat]) for _ in range(3)]
        for child in children: child.wait()
    """
    seen = watched(tmp_path, code, limits=Limits(seconds=60, memory_bytes=300 * MB))
    assert seen.ended == "memory_limit"


@linux
def test_memory_that_children_share_counts_once(tmp_path):
    code = """
        import os, time
        shared = b"x" * 200_000_000
        for _ in range(3):
            if os.fork() == 0:
                time.sleep(1)
                os._exit(0)
        for _ in range(3): os.wait()
    """
    seen = watched(tmp_path, code)
    assert seen.exit_code == 0, seen.stderr_tail
    assert 200 * MB < seen.peak_bytes < 300 * MB


@linux
def test_a_peak_between_two_looks_is_known(tmp_path):
    seen = watched(tmp_path, "x = b'x' * 400_000_000\ndel x\n")
    assert 400 * MB < seen.peak_bytes < 500 * MB


def test_a_program_that_prints_without_end_is_ended_and_its_output_cut(tmp_path):
    code = "while True: print('again and again')"
    seen = watched(tmp_path, code, limits=Limits(seconds=60, output_bytes=50_000))
    assert (seen.exit_code, seen.ended) == (None, "output_limit")
    assert seen.stdout_tail.endswith("[cut after 50000 bytes]\n")
    assert (tmp_path / "seen" / "stdout.txt").stat().st_size < 50_100


def test_no_child_is_left_behind(tmp_path):
    code = """
        import subprocess, sys
        sleep = [sys.executable, "-c", "import time; time.sleep(3600)"]
        own = subprocess.Popen(sleep)
        apart = subprocess.Popen(sleep, start_new_session=True)
        # Its parent ends at once, and it has a group of its own.
        start = (
            "import subprocess as s; child = s.Popen("
            f"{sleep}, start_new_session=True, stdout=s.DEVNULL, stderr=s.DEVNULL)"
            "; print(child.pid)"
        )
        orphan = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True)
        print(own.pid, apart.pid, orphan.stdout)
    """
    seen = watched(tmp_path, code)
    assert seen.exit_code == 0, seen.stderr_tail
    pids = [int(word) for word in seen.stdout_tail.split()]
    assert len(pids) == 3
    assert [pid for pid in pids if is_running(pid)] == []


WATCHING = """
    import sys
    from pathlib import Path
    from maquette.research.running.sandbox import Limits, run_watched
    project = Path(sys.argv[1])
    run_watched([sys.executable, "run.py"], cwd=project, environment={}, limits=Limits(),
                allowed=[project], folder=project / "seen")
"""
SLEEPING = "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(3600)\n"


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(signal.SIGINT, id="ctrl-c"),
        pytest.param(signal.SIGKILL, id="kill", marks=linux),
    ],
)
def test_the_program_ends_with_the_one_that_watches_it(tmp_path, end):
    (tmp_path / "run.py").write_text(SLEEPING)
    command = [sys.executable, "-c", dedent(WATCHING), str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as watching:
        pid = int(wait_for(tmp_path / "pid"))
        assert is_running(pid)
        watching.send_signal(end)
        try:
            _, error = watching.communicate(timeout=60)
        finally:
            watching.kill()
    assert ends(pid)
    if end == signal.SIGINT:
        assert "KeyboardInterrupt" in error


def test_a_relative_folder_of_data_is_the_one_beside_the_user(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MAQUETTE_DATA_MIRROR", "mirror")
    monkeypatch.setenv("RESEARCH_MIRROR", "https://example.org/data")
    project = tmp_path / "project"
    project.mkdir()
    (project / "run.py").write_text(
        "import os\nprint(os.environ['MAQUETTE_DATA_MIRROR'], os.environ['RESEARCH_MIRROR'])\n"
    )
    seen = run_watched(
        [sys.executable, "run.py"],
        cwd=project,
        environment={},
        limits=Limits(seconds=60),
        allowed=[project],
        folder=tmp_path / "seen",
    )
    assert seen.stdout_tail == f"{tmp_path / 'mirror'} https://example.org/data\n"


def test_a_module_runs_as_python_runs_it(tmp_path):
    (tmp_path / "talk.py").write_text("import sys\nprint(sys.argv[1:], __name__, sys.path[0])\n")
    seen = run_watched(
        [sys.executable, "-m", "talk", "--loud"],
        cwd=tmp_path,
        environment={},
        limits=Limits(seconds=60),
        allowed=[tmp_path],
        folder=tmp_path / "seen",
    )
    assert seen.stdout_tail == f"['--loud'] __main__ {tmp_path}\n"


def test_a_trusted_program_runs_without_a_guard(tmp_path):
    outside = tmp_path / "outside.txt"
    seen = run_watched(
        [sys.executable, "-c", f"open({str(outside)!r}, 'w').write('x')"],
        cwd=tmp_path,
        environment={},
        limits=Limits(seconds=60),
        allowed=None,
        folder=tmp_path / "seen",
    )
    assert outside.read_text() == "x"
    assert not seen.observed
    assert seen.peak_bytes >= 0


def test_a_program_that_cannot_start(tmp_path):
    with pytest.raises(RunError) as error:
        run_watched(
            ["no-such-program"],
            cwd=tmp_path,
            environment={},
            limits=Limits(),
            allowed=None,
            folder=tmp_path / "seen",
        )
    assert str(error.value) == (
        f"Could not start no-such-program in {tmp_path}: No such file or directory. "
        "Check that the file and the folder exist and that the file is executable."
    )


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "seen").write_text("a file")
    with pytest.raises(RunError) as error:
        watched(tmp_path, "print(1)")
    assert str(error.value) == (
        f"Could not write {tmp_path / 'seen'}: File exists. "
        "Free some space, or make the folder writable, and run again."
    )


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_limits_are_above_zero(value):
    with pytest.raises(UsageError) as error:
        Limits(seconds=value)
    assert str(error.value) == (
        f"The limit of seconds is {value:g}, expected a number above 0, such as 1800."
    )


def test_memory_where_the_system_does_not_tell_shares(tmp_path, monkeypatch):
    """As on macOS: what each process sees is added up."""
    monkeypatch.delattr(psutil.Process, "memory_full_info")
    code = """
        import os, time
        shared = b"x" * 100_000_000
        if os.fork() == 0:
            time.sleep(1)
            os._exit(0)
        os.wait()
    """
    seen = watched(tmp_path, code)
    assert seen.peak_bytes > 200 * MB


def test_an_ended_tree_can_be_ended_again(tmp_path):
    with (tmp_path / "out").open("wb") as out:
        tree = Tree(
            [sys.executable, "-c", "pass"],
            cwd=tmp_path,
            environment=os.environ,
            stdout=out,
            stderr=out,
        )
        tree.end()
        tree.end()
    assert tree.program.returncode is not None
    assert tree.measure() == 0
