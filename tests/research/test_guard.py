"""What a guarded program may touch, and what is seen of its files, children and gradients."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sqlite3
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from sandbox_cases import watched
from torch import nn

from maquette.research.running import guard as guard_module
from maquette.research.running.guard import Guard, _own_peak, confine, main
from maquette.research.running.guard_torch import Watch, observe, watched_save

REFUSAL = "This run may not write outside the project and its data folder"
linux = pytest.mark.skipif(sys.platform != "linux", reason="Landlock is of Linux")

CHANGES = """
    import os, pathlib, shutil, sqlite3, sys, tempfile
    there = pathlib.Path(sys.argv[1])
    ATTEMPTS = {
        "open": lambda: open(there / "new.txt", "w"),
        "append": lambda: open(there / "old.txt", "a"),
        "update": lambda: open(there / "old.txt", "r+b"),
        "descriptor": lambda: os.open(there / "new.txt", os.O_WRONLY | os.O_CREAT),
        "write_text": lambda: (there / "new.txt").write_text("x"),
        "touch": lambda: (there / "new.txt").touch(),
        "mkdir": lambda: os.mkdir(there / "folder"),
        "makedirs": lambda: (there / "a" / "b").mkdir(parents=True),
        "remove": lambda: os.remove(there / "old.txt"),
        "unlink": lambda: (there / "old.txt").unlink(),
        "rmdir": lambda: os.rmdir(there / "empty"),
        "rmtree": lambda: shutil.rmtree(there / "full"),
        "rename": lambda: os.rename(there / "old.txt", "here.txt"),
        "replace": lambda: os.replace("own.txt", there / "old.txt"),
        "move": lambda: shutil.move("own.txt", there / "moved.txt"),
        "copy": lambda: shutil.copy("own.txt", there / "copied.txt"),
        "link": lambda: os.link("own.txt", there / "linked.txt"),
        "symlink": lambda: os.symlink("own.txt", there / "linked.txt"),
        "truncate": lambda: os.truncate(there / "old.txt", 0),
        "chmod": lambda: os.chmod(there / "old.txt", 0o600),
        "utime": lambda: os.utime(there / "old.txt", (0, 0)),
        "sqlite": lambda: sqlite3.connect(there / "base.db"),
        "through a link": lambda: open("link.txt", "w"),
        "temporary": lambda: tempfile.mkstemp(dir=there),
    }
    for name, attempt in ATTEMPTS.items():
        try:
            attempt()
        except PermissionError as error:
            print(f"{name}: refused: {error}")
        else:
            print(f"{name}: done")
"""


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the project with something in it."""
    folder = tmp_path / "outside"
    (folder / "empty").mkdir(parents=True)
    (folder / "full").mkdir()
    (folder / "full" / "deep.txt").write_text("deep")
    (folder / "old.txt").write_text("old")
    return folder


def contents(folder: Path) -> dict[str, Any]:
    """Everything in a folder: text, rights, time of change."""
    return {
        str(path.relative_to(folder)): (
            path.is_dir() or path.read_text(),
            path.stat().st_mode,
            path.stat().st_mtime_ns,
        )
        for path in sorted(folder.rglob("*"))
    }


def test_every_change_outside_is_refused_and_the_first_are_listed(tmp_path, outside):
    project = tmp_path / "project"
    project.mkdir()
    (project / "own.txt").write_text("own")
    (project / "link.txt").symlink_to(outside / "old.txt")
    before = contents(outside)
    seen = watched(tmp_path, CHANGES, str(outside))
    lines = seen.stdout_tail.splitlines()
    assert len(lines) == 24, seen.stderr_tail
    assert [line for line in lines if ": refused: " not in line] == []
    assert all(f"[Errno 13] {REFUSAL}: '" in line for line in lines)
    assert contents(outside) == before
    assert (project / "own.txt").read_text() == "own"
    assert seen.wrote_outside == tuple(
        f"{outside}/{what}"
        for what in (
            "new.txt (open)",
            "old.txt (open)",
            "new.txt (utime)",
            "folder (mkdir)",
            "a/b (mkdir)",
            "old.txt (remove)",
            "empty (rmdir)",
            "full/deep.txt (remove)",
        )
    )


def test_inside_everything_works(tmp_path, outside):
    project = tmp_path / "project"
    project.mkdir()
    (project / "own.txt").write_text("own")
    code = """
        import os, pathlib, shutil, sqlite3, tempfile
        pathlib.Path("a/b").mkdir(parents=True)
        pathlib.Path("a/b").mkdir(exist_ok=True)
        shutil.copy("own.txt", "a/copy.txt")
        os.rename("a/copy.txt", "a/b/renamed.txt")  # between folders
        os.replace("a/b/renamed.txt", "a/final.txt")
        os.symlink("final.txt", "a/link.txt")
        with tempfile.NamedTemporaryFile() as file: file.write(b"x")
        with tempfile.TemporaryDirectory() as folder: pathlib.Path(folder, "x").touch()
        sqlite3.connect("a/base.db").execute("create table t (x)")
        sqlite3.connect(":memory:")
        open(os.devnull, "w").write("x")
        os.chmod("a/final.txt", 0o600)
        os.remove("a/link.txt")
        shutil.rmtree("a/b")
        print(sorted(os.listdir("a")))
    """
    seen = watched(tmp_path, code)
    assert seen.exit_code == 0, seen.stderr_tail
    assert seen.stdout_tail == "['base.db', 'final.txt']\n"
    assert seen.wrote_outside == ()


def test_what_changes_nothing_outside_is_left_to_the_system(tmp_path, outside):
    code = """
        import os, pathlib, sys
        there = pathlib.Path(sys.argv[1])
        there.mkdir(exist_ok=True)
        (there / "absent.txt").unlink(missing_ok=True)
        print((there / "old.txt").read_text(), os.listdir(there / "full"))
    """
    seen = watched(tmp_path, code, str(outside))
    assert seen.exit_code == 0, seen.stderr_tail
    assert seen.stdout_tail == "old ['deep.txt']\n"
    assert seen.wrote_outside == ()


def test_python_children_are_guarded_too(tmp_path, outside):
    code = """
        import multiprocessing, os, subprocess, sys
        target = sys.argv[1] + "/new.txt"

        def write(how):
            try: open(target, "w")
            except PermissionError as error: print(how, "refused", flush=True)

        if __name__ == "__main__":
            for how in ("fork", "spawn"):
                child = multiprocessing.get_context(how).Process(target=write, args=(how,))
                child.start()
                child.join()
            program = f"open({target!r}, 'w')"
            print(subprocess.run([sys.executable, "-c", program], stderr=-3).returncode)
    """
    seen = watched(tmp_path, code, str(outside))
    assert seen.stdout_tail == "fork refused\nspawn refused\n1\n", seen.stderr_tail
    assert seen.wrote_outside == (f"{outside}/new.txt (open)",)
    assert not (outside / "new.txt").exists()


@linux
def test_the_system_refuses_the_same_to_other_children(tmp_path, outside):
    code = """
        import subprocess, sys
        print(subprocess.run(["touch", sys.argv[1] + "/new.txt"], stderr=-3).returncode)
        print(subprocess.run(["touch", "inside.txt"]).returncode)
    """
    seen = watched(tmp_path, code, str(outside))
    if not seen.confined:
        pytest.skip("this kernel has no Landlock")
    assert seen.stdout_tail == "1\n0\n"
    assert not (outside / "new.txt").exists()


def test_data_files_that_are_read_are_listed_with_their_checksum(tmp_path):
    mirror, cache, local = tmp_path / "mirror", tmp_path / "cache", tmp_path / "local.csv"
    (mirror / "adult").mkdir(parents=True)
    (mirror / "adult" / "adult.csv").write_text("mirror")
    (mirror / "unread.csv").write_text("never")
    local.write_text("local")
    code = """
        import os, pathlib, shutil
        data = pathlib.Path(os.environ["RESEARCH_DATA"])
        mirror = pathlib.Path(os.environ["RESEARCH_MIRROR"])
        shutil.copy(mirror / "adult" / "adult.csv", data / "part")
        os.rename(data / "part", data / "adult.csv")
        for _ in range(2): open(data / "adult.csv").read()
        pathlib.Path("data/cache").mkdir(parents=True)
        pathlib.Path("data/cache/own.csv").write_text("own")
        pathlib.Path("data/cache/own.csv").read_text()
        pathlib.Path("../local.csv").read_text()
        pathlib.Path("run.py").read_text()
    """
    environment = {"RESEARCH_DATA": str(cache), "RESEARCH_MIRROR": str(mirror)}
    seen = watched(tmp_path, code, environment=environment, data=[local])
    assert seen.exit_code == 0, seen.stderr_tail

    def digest(text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()

    assert seen.read_files == {
        str(mirror / "adult" / "adult.csv"): digest("mirror"),
        str(cache / "adult.csv"): digest("mirror"),
        str(tmp_path / "project" / "data" / "cache" / "own.csv"): digest("own"),
        str(local): digest("local"),
    }


def test_a_mirror_is_not_written(tmp_path):
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    code = "import os; open(os.environ['RESEARCH_MIRROR'] + '/x', 'w')"
    seen = watched(tmp_path, code, environment={"RESEARCH_MIRROR": str(mirror)})
    assert f"PermissionError: [Errno 13] {REFUSAL}: '{mirror}/x'" in seen.stderr_tail


TRAINING = """
    import sys
    import torch
    from torch.utils.data import DataLoader

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    if __name__ == "__main__":
        loader = DataLoader(torch.ones(4, 2), batch_size=1, num_workers=1)
        for step, rows in enumerate(loader):
            loss = model(rows).mean()
            if step == 2:
                loss = loss * float("nan")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        torch.save(model.state_dict(), "model.pt")
        torch.load("model.pt")
        print(type(torch.__loader__).__name__, torch.__loader__ is torch.__spec__.loader)
        torch.save(model.state_dict(), sys.argv[1] + "/model.pt")
"""


def test_gradients_and_losses_are_looked_at(tmp_path, outside):
    seen = watched(tmp_path, TRAINING, str(outside))
    assert f"PermissionError: [Errno 13] {REFUSAL}: '{outside}/model.pt'" in seen.stderr_tail
    assert seen.stdout_tail == '\n"" True\n' or seen.stdout_tail.endswith(" True\n")
    assert seen.steps == 4
    assert seen.bad_gradients == (
        "step 3: nan in 0.weight",
        "step 3: nan in 0.bias",
        "step 3: nan in 1.weight",
        "step 3: nan in 1.bias",
    )
    assert seen.bad_losses == ("step 3: nan", "step 4: nan")
    assert seen.wrote_outside == (f"{outside}/model.pt (torch.save)",)
    assert seen.gpu_peak_bytes is None


class Told:
    """Keeps what a guard is told."""

    def __init__(self) -> None:
        self.facts: list[dict[str, Any]] = []

    def tell(self, **facts: Any) -> None:
        """Keep it."""
        self.facts.append(facts)


def step(*gradients: Any, module: nn.Module | None = None) -> list[dict[str, Any]]:
    """Take two optimiser steps with these gradients, and return what was told of them."""
    shapes = [torch.ones(2) if gradient is None else gradient for gradient in gradients]
    made = [nn.Parameter(torch.ones_like(shape)) for shape in shapes] if module is None else []
    parameters = list(module.parameters()) if module else made
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    told = Told()
    watch = Watch(torch, told)
    optimizer = SimpleNamespace(param_groups=[{"params": parameters}])
    watch.before_step(optimizer)
    watch.before_step(optimizer)  # the first is enough
    return [facts for facts in told.facts if "bad_gradient" in facts]


def test_finite_and_absent_gradients_say_nothing():
    assert step(torch.ones(2), None) == []
    assert step(None) == []


def test_an_infinite_gradient_of_a_parameter_without_a_name():
    told = step(torch.ones(2), torch.tensor([1.0, float("inf")]))
    assert told == [{"bad_gradient": "step 1: inf in parameter 1 of group 0"}]


def test_large_gradients_whose_sum_overflows_are_finite():
    assert step(torch.full((2,), 3e38)) == []
    assert step(torch.full((4,), 6e4, dtype=torch.float16)) == []


def test_infinities_that_cancel_are_found():
    told = step(torch.tensor([float("inf"), -float("inf")]))
    assert told == [{"bad_gradient": "step 1: inf in parameter 0 of group 0"}]


def test_a_sparse_gradient():
    module = nn.Embedding(3, 1, sparse=True)
    (module(torch.tensor([1])) * float("nan")).sum().backward()
    assert step(module.weight.grad, module=module) == [{"bad_gradient": "step 1: nan in weight"}]


def test_at_most_eight_gradients_are_listed():
    told = step(*[torch.full((2,), float("nan"))] * 12)
    assert len(told) == 8


def test_steps_are_told_while_it_runs_and_a_fork_begins_at_none(monkeypatch):
    told = Told()
    watch = Watch(torch, told)
    watch.told -= 2
    watch.before_step(SimpleNamespace(param_groups=[]))
    watch.before_step(SimpleNamespace(param_groups=[]))
    assert told.facts == [{"steps": 1, "gpu_peak_bytes": None}]
    watch.forget()
    watch.tell()
    assert told.facts[-1]["steps"] == 0


def test_the_memory_of_all_devices_is_told():
    cuda = SimpleNamespace(
        is_initialized=lambda: True,
        device_count=lambda: 2,
        max_memory_allocated=[10, 7].__getitem__,
    )
    told = Told()
    Watch(SimpleNamespace(cuda=cuda), told).tell()
    assert told.facts == [{"steps": 0, "gpu_peak_bytes": 17}]


def test_losses_are_looked_at_and_backward_is_called():
    told = Told()
    calls: list[Any] = []
    backward = Watch(torch, told).watched_backward(lambda *args, **kwargs: calls.append(args))
    for _ in range(10):
        backward(torch.tensor(float("inf")))
    backward([torch.tensor(1.0)], None, retain_graph=True)
    assert told.facts == [{"bad_loss": "step 1: inf"}] * 8
    assert len(calls) == 11


def test_saving_asks_only_about_paths(tmp_path):
    asked: list[tuple[str, str]] = []
    saved: list[Any] = []
    guard = SimpleNamespace(check=lambda *args: asked.append(args))
    save = watched_save(lambda *args, **kwargs: saved.append(args), guard)
    save({}, tmp_path / "model.pt")
    save({}, sys.stdout)
    assert asked == [("torch.save", str(tmp_path / "model.pt"))]
    assert len(saved) == 2


@pytest.fixture
def guard(tmp_path: Path) -> Guard:
    """A guard that is asked, and installed nowhere."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    made = Guard(str(tmp_path / "report"), [str(tmp_path / "in")], [str(tmp_path / "data")])
    yield made
    os.close(made.report)


def told_by(tmp_path: Path) -> list[dict[str, Any]]:
    """The lines of the report."""
    return [json.loads(line) for line in (tmp_path / "report").read_text().splitlines()]


WRITE = os.O_WRONLY | os.O_CREAT


def test_a_path_may_be_bytes_and_a_number_was_judged_before(tmp_path, guard):
    with pytest.raises(PermissionError):
        guard("open", (os.fsencode(tmp_path / "out" / "x"), "w", WRITE))
    guard("open", (3, "w", WRITE))
    guard("os.truncate", (3, 0))
    guard("open", (str(tmp_path / "in" / "x"), "w", WRITE))
    guard("compile", ("x", "y"))
    assert told_by(tmp_path)[-1]["wrote_outside"] == f"{tmp_path}/out/x (open)"


def test_names_that_only_begin_alike_are_outside(tmp_path, guard):
    with pytest.raises(PermissionError):
        guard("os.mkdir", (str(tmp_path / "inside"), 0o777, -1))
    with pytest.raises(PermissionError):
        guard("os.mkdir", (str(tmp_path / "in" / ".." / "new"), 0o777, -1))


@linux
def test_a_path_relative_to_an_open_folder(tmp_path, guard):
    folder = os.open(tmp_path / "out", os.O_RDONLY)
    try:
        with pytest.raises(PermissionError) as error:
            guard("os.mkdir", ("new", 0o777, folder))
    finally:
        os.close(folder)
    assert error.value.filename == str(tmp_path / "out" / "new")


def test_a_folder_that_does_not_say_where_it_is(tmp_path, guard, monkeypatch):
    monkeypatch.chdir(tmp_path / "in")
    guard("os.mkdir", ("new", 0o777, 9999))


def test_compiled_files_beside_a_library_are_no_harm(tmp_path, guard):
    guard("open", (str(tmp_path / "out" / "__pycache__" / "x.pyc"), "w", WRITE))
    assert told_by(tmp_path) == []


def test_what_changes_nothing_is_left_to_the_system_in_every_form(tmp_path, guard):
    guard("os.mkdir", (str(tmp_path / "out"), 0o777, -1))
    guard("os.remove", (str(tmp_path / "out" / "absent"), -1))
    guard("os.rmdir", (str(tmp_path / "out" / "absent"), -1))
    with pytest.raises(PermissionError):
        guard("os.rmdir", (str(tmp_path / "out"), -1))


def test_databases(tmp_path, guard):
    base = tmp_path / "out" / "base.db"
    sqlite3.connect(base).close()
    for name in (":memory:", "", f"file:{base}?mode=ro", str(tmp_path / "in" / "x.db")):
        guard("sqlite3.connect", (name,))
    for name in (str(base), f"file:{base}?mode=rw"):
        with pytest.raises(PermissionError, match="may not write"):
            guard("sqlite3.connect", (name,))


def test_reading_is_told_once(tmp_path, guard):
    for name in ("data/x", "data/x", "in/y"):
        guard("open", (str(tmp_path / name), "r", os.O_RDONLY))
    assert [line["read"] for line in told_by(tmp_path)] == [f"{tmp_path}/data/x"]


def test_a_peak_that_nobody_tells(tmp_path):
    assert _own_peak(str(tmp_path / "absent")) == 0


def test_elsewhere_the_system_confines_nobody(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert confine([]) is False


@linux
@pytest.mark.parametrize("answers", [[-1], [2], [7, -1]])
def test_a_kernel_without_landlock_or_an_old_one_confines_nobody(monkeypatch, answers):
    kernel = SimpleNamespace(syscall=lambda *_: answers.pop(0))
    monkeypatch.setattr(guard_module.ctypes, "CDLL", lambda *_, **__: kernel)
    assert confine([]) is False
    assert answers == []


@linux
def test_only_what_is_there_is_permitted_and_a_file_has_fewer_rights(tmp_path):
    rules: list[bytes] = []
    kernel = SimpleNamespace(syscall=lambda *args: rules.append(args[3]))
    for path in (tmp_path / "absent", tmp_path, Path(__file__)):
        guard_module._permit(kernel, 3, str(path))
    folder, file = (int.from_bytes(rule[:8], sys.byteorder) for rule in rules)
    assert folder & file == file == 1 << 1 | 1 << 14
    assert folder & 1 << 8  # make a file


@pytest.fixture
def harmless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """`main` may run here: what cannot be undone is left out. Returns what was installed."""
    installed: list[dict[str, Any]] = []
    monkeypatch.setattr(guard_module, "confine", lambda allowed: False)
    monkeypatch.setattr(guard_module, "_die_with_parent", lambda: None)
    monkeypatch.setattr(guard_module, "install", installed.append)
    monkeypatch.setattr(guard_module, "faulthandler", SimpleNamespace(enable=lambda: None))
    monkeypatch.setattr(sys, "argv", ["guard.py"])
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setenv(guard_module.SETTINGS, "")
    monkeypatch.setenv("PYTHONPATH", "before")
    monkeypatch.chdir(tmp_path)
    return installed


def test_a_script_finds_its_arguments_and_its_folder(tmp_path, harmless, capsys):
    (tmp_path / "run.py").write_text("import sys; print(sys.argv, sys.path[0], __name__)")
    report = str(tmp_path / "report")
    main(["--report", report, "--allowed", "a", "--allowed", "b", "--", "run.py", "--report", "x"])
    assert capsys.readouterr().out == f"['run.py', '--report', 'x'] {tmp_path} __main__\n"
    settings = {"report": report, "allowed": ["a", "b"], "data": [], "confined": False}
    assert harmless == [settings]
    assert json.loads(os.environ[guard_module.SETTINGS]) == settings
    folder = f"{report}.path"
    assert os.environ["PYTHONPATH"] == f"{folder}{os.pathsep}before"
    assert guard_module.__file__ in Path(folder, "sitecustomize.py").read_text()


def test_a_module_finds_its_arguments(tmp_path, harmless, monkeypatch, capsys):
    monkeypatch.delenv("PYTHONPATH")
    (tmp_path / "talking.py").write_text("import sys; print(sys.argv[1:], sys.path[0])")
    main(["--report", str(tmp_path / "report"), "--", "-m", "talking", "--loud"])
    assert capsys.readouterr().out == f"['--loud'] {tmp_path}\n"
    assert os.environ["PYTHONPATH"] == str(tmp_path / "report.path")


def test_installed_it_tells_what_it_is(tmp_path, monkeypatch):
    hooks: list[Any] = []
    ends: list[Any] = []
    monkeypatch.setattr(sys, "addaudithook", hooks.append)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(guard_module.atexit, "register", ends.append)
    report = str(tmp_path / "report")
    guard_module.install({"report": report, "allowed": [], "data": [], "confined": True})
    ends[0]()
    assert told_by(tmp_path)[0]["confined"] is True
    assert told_by(tmp_path)[1]["peak_bytes"] >= 0
    os.close(hooks[0].report)


def test_after_torch_comes_its_observer(tmp_path, monkeypatch, guard):
    """A module of the name torch is imported by its own loader, and then looked at."""
    (tmp_path / "torch.py").write_text("VALUE = 1\n")
    seen: list[Any] = []
    observer = {"observe": lambda module, given: seen.append((module.VALUE, given))}
    monkeypatch.setattr(guard_module.runpy, "run_path", lambda path: observer)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    finder = guard_module._AfterTorch(guard)
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    monkeypatch.delitem(sys.modules, "torch")
    assert finder.find_spec("json") is None
    module = importlib.import_module("torch")
    assert seen == [(1, guard)]
    assert finder not in sys.meta_path
    assert module.__loader__ is module.__spec__.loader is finder.loader


def test_a_torch_that_is_not_there(tmp_path, monkeypatch, guard):
    finder = guard_module._AfterTorch(guard)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    monkeypatch.delitem(sys.modules, "torch")
    with pytest.raises(ModuleNotFoundError, match="No module named 'torch'"):
        importlib.import_module("torch")


def test_an_error_is_shown_from_the_programs_first_frame(monkeypatch, capsys):
    monkeypatch.setattr(guard_module, "_OURS", (__file__,))
    try:
        json.loads("{")
    except ValueError as error:
        guard_module._show(type(error), error, error.__traceback__)
    shown = capsys.readouterr().err
    assert "decoder.py" in shown
    assert __file__ not in shown


def test_observing_torch_hooks_what_it_says(monkeypatch):
    hooks: list[Any] = []
    optimizers = sys.modules["torch.optim.optimizer"]
    monkeypatch.setattr(optimizers, "register_optimizer_step_pre_hook", hooks.append)
    for owner, name in ((torch.autograd, "backward"), (torch, "save")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    monkeypatch.setattr(torch.serialization, "save", torch.save)
    monkeypatch.setattr("atexit.register", lambda call: None)
    monkeypatch.setattr(os, "register_at_fork", lambda **calls: None)
    told = Told()
    observe(torch, told)
    assert len(hooks) == 1
    weight = nn.Parameter(torch.tensor(float("nan")))
    weight.backward()
    assert told.facts == [{"bad_loss": "step 1: nan"}]
    assert torch.save is torch.serialization.save
