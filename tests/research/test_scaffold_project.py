"""A new project's finished parts: download, seeds, batches, the loop, the record, a whole run."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from scaffold_cases import Modules, imported, new_workspace, write_items
from torch import nn

from maquette.research.records import read_record

CONTENT = bytes(range(256)) * 40
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose items are written."""
    found = new_workspace(tmp_path_factory.mktemp("scaffold")) / "project"
    write_items(found)
    return found


@pytest.fixture(scope="module")
def modules(project: Path) -> Iterator[Modules]:
    with imported(project) as found:
        yield found


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no mirror."""
    monkeypatch.setenv("RESEARCH_DATA", str(tmp_path / "cache"))
    monkeypatch.delenv("RESEARCH_MIRROR", raising=False)
    monkeypatch.delenv("MAQUETTE_DATA_MIRROR", raising=False)
    return tmp_path / "cache"


class Server:
    """What a test's HTTP server does, and what it was asked."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.knows_ranges = True
        self.breaks_after: int | None = None
        self.asked: list[tuple[str, str | None]] = []
        self.address = ""


@pytest.fixture
def server() -> Iterator[Server]:
    manners = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            manners.asked.append((self.path, wanted))
            start = 0
            if wanted and manners.knows_ranges:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                if start >= len(manners.content):
                    self.send_error(416)
                    return
                self.send_response(206)
            elif self.path == "/gone":
                self.send_error(404)
                return
            else:
                self.send_response(200)
            body = manners.content[start:]
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: manners.breaks_after])

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        manners.address = f"http://127.0.0.1:{http.server_address[1]}"
        thread = threading.Thread(target=functools.partial(http.serve_forever, 0.01))
        thread.start()
        try:
            yield manners
        finally:
            http.shutdown()
            thread.join()


def source(modules: Modules, **facts: str):
    """Return a source of the bytes above."""
    return modules("utils.download").Source(**{"file": "a/b.csv", "sha256": DIGEST} | facts)


def test_a_file_is_fetched_once(modules, cache: Path, server: Server):
    fetch = modules("utils.download").fetch
    wanted = source(modules, url=f"{server.address}/b.csv")

    first, second = fetch(wanted), fetch(wanted)

    assert first == second == cache / DIGEST[:12] / "b.csv"
    assert first.read_bytes() == CONTENT
    assert server.asked == [("/b.csv", None)]


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_broken_download_continues(modules, cache: Path, server: Server, knows_ranges: bool):
    fetch = modules("utils.download").fetch
    wanted = source(modules, url=f"{server.address}/b.csv")
    server.breaks_after, server.knows_ranges = 1000, knows_ranges

    with pytest.raises(
        ConnectionError,
        match=r"Could not read http://.*: the connection ended after 1000 of 10240 bytes\. Run "
        r"again to continue, or set RESEARCH_MIRROR to a folder that holds a/b\.csv\.",
    ):
        fetch(wanted)
    server.breaks_after = None

    assert fetch(wanted).read_bytes() == CONTENT
    assert server.asked == [("/b.csv", None), ("/b.csv", "bytes=1000-")]
    assert [path.name for path in (cache / DIGEST[:12]).iterdir()] == ["b.csv"]


def test_a_download_that_was_whole_already_is_taken(modules, cache: Path, server: Server):
    (cache / DIGEST[:12]).mkdir(parents=True)
    (cache / DIGEST[:12] / "b.csv.part").write_bytes(CONTENT)

    found = modules("utils.download").fetch(source(modules, url=f"{server.address}/b.csv"))

    assert found.read_bytes() == CONTENT
    assert server.asked == [("/b.csv", f"bytes={len(CONTENT)}-")]


def test_other_bytes_are_refused_and_not_kept(modules, cache: Path, server: Server):
    server.content = b"other"

    with pytest.raises(
        ValueError, match=rf"has sha256 [0-9a-f]{{64}}, expected {DIGEST}: it is another file, or"
    ):
        modules("utils.download").fetch(source(modules, url=f"{server.address}/b.csv"))

    assert list((cache / DIGEST[:12]).iterdir()) == []


def test_an_address_that_is_gone_is_named(modules, cache: Path, server: Server):
    with pytest.raises(ConnectionError, match=r"Could not read http://.*/gone: HTTP Error 404"):
        modules("utils.download").fetch(source(modules, url=f"{server.address}/gone"))


@pytest.mark.parametrize("variable", ["RESEARCH_MIRROR", "MAQUETTE_DATA_MIRROR"])
def test_a_mirror_that_is_a_folder_is_read_where_it_is(
    modules, cache: Path, tmp_path: Path, monkeypatch, variable: str
):
    held = tmp_path / "mirror" / "a" / "b.csv"
    held.parent.mkdir(parents=True)
    held.write_bytes(CONTENT)
    monkeypatch.setenv(variable, str(tmp_path / "mirror"))

    assert modules("utils.download").fetch(source(modules, url="http://nowhere.invalid")) == held

    assert not cache.exists()
    held.write_bytes(b"other")
    with pytest.raises(ValueError, match=r"b\.csv has sha256"):
        modules("utils.download").fetch(source(modules))


def test_a_mirror_may_be_an_address(modules, cache: Path, server: Server, monkeypatch):
    monkeypatch.setenv("RESEARCH_MIRROR", f"{server.address}/held/")

    modules("utils.download").fetch(source(modules))

    assert server.asked == [("/held/a/b.csv", None)]


def test_without_address_and_mirror_the_message_says_what_to_set(modules, cache: Path):
    with pytest.raises(
        FileNotFoundError,
        match=rf"a/b\.csv is not here, and it has no address on the internet\. Set RESEARCH_MIRROR "
        rf"to a folder or an http\(s\) address that holds a/b\.csv \(sha256 {DIGEST}\)\.",
    ):
        modules("utils.download").fetch(source(modules))


def test_a_local_path_starts_at_the_project(modules, project: Path, cache: Path):
    (project.parent / "near.csv").write_bytes(CONTENT)

    found = modules("utils.download").fetch(source(modules, path="../near.csv"))

    assert found.read_bytes() == CONTENT


def test_the_cache_is_in_the_project_by_default(modules, project: Path, cache, monkeypatch, server):
    monkeypatch.delenv("RESEARCH_DATA")

    found = modules("utils.download").fetch(source(modules, url=server.address))

    assert found == project / "data" / "cache" / DIGEST[:12] / "b.csv"


def test_a_zip_is_unpacked_once_and_inside_its_folder(modules, cache: Path, tmp_path: Path):
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("in/a.txt", "a")
        file.writestr("../outside.txt", "b")
    wanted = source(
        modules,
        file="x.zip",
        path=str(archive),
        sha256=hashlib.sha256(archive.read_bytes()).hexdigest(),
    )
    unpack = modules("utils.download").fetch_unpacked

    folder = unpack(wanted)
    (folder / "in" / "a.txt").write_text("mine")

    assert unpack(wanted) == folder
    assert (folder / "in" / "a.txt").read_text() == "mine"
    assert [path.name for path in folder.parent.iterdir()] == ["unpacked"]
    assert not list(tmp_path.rglob("outside.txt"))


def test_seeds_repeat_every_source_of_randomness(modules):
    import random

    import numpy as np

    seed_everything = modules("utils.seeding").seed_everything
    drawn = []
    for _ in range(2):
        seed_everything(7)
        drawn.append((random.random(), np.random.rand(), torch.rand(()).item()))

    assert drawn[0] == drawn[1]


def test_a_record_is_what_the_platform_reads(modules, tmp_path: Path):
    record = modules("utils.record").Record(command="python run.py --epochs 2", epochs=2)
    record.add_dataset("iris", sha256=DIGEST, samples=150)
    record.add_training(
        dataset="iris",
        model="net",
        seed=0,
        metrics={"accuracy": 0.9},
        baseline={"accuracy": float("nan")},
        losses=[1.0, float("inf")],
        grad_norms=[2.0, 1.5],
        test_samples=30,
        seconds=0.5,
    )

    path = record.write(tmp_path / "deep" / "out")

    read = read_record(path)
    training = read.trainings[0]
    assert (read.epochs, read.command) == (2, "python run.py --epochs 2")
    assert read.datasets["iris"].samples == 150
    assert training.losses == (1.0, None)
    assert training.grad_norms == (2.0, 1.5)
    assert training.baseline == {"accuracy": None}
    assert training.model_extra == {"test_samples": 30}
    assert [found.name for found in path.parent.iterdir()] == ["run.json"]


def test_a_record_that_cannot_be_written_leaves_the_old_one(modules, tmp_path: Path):
    record = modules("utils.record").Record(command="x", epochs=1)
    path = record.write(tmp_path)
    before = path.read_text()
    record.command = object()

    with pytest.raises(TypeError):
        record.write(tmp_path)

    assert path.read_text() == before
    assert [found.name for found in tmp_path.iterdir()] == ["run.json"]


def test_batches_cover_every_sample_in_a_seeded_order(modules):
    samples = modules("data.dataset").Samples(torch.arange(10.0)[:, None], torch.arange(10))
    make_loader = modules("data.loader").make_loader

    ordered = list(make_loader(samples, batch_size=4, shuffle=False))
    loaders = [make_loader(samples, batch_size=4, shuffle=True, seed=seed) for seed in (1, 1, 2)]
    first, again, other = ([t.tolist() for _, t in loader] for loader in loaders)
    second_epoch = [t.tolist() for _, t in loaders[0]]

    assert [targets.tolist() for _, targets in ordered] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert ordered[2][0].tolist() == [[8.0], [9.0]]
    assert first == again
    assert first != other
    assert first != second_epoch
    assert sorted(index for batch in first for index in batch) == list(range(10))


def test_samples_need_as_many_targets(modules):
    with pytest.raises(ValueError, match=r"3 inputs cannot have 2 targets\."):
        modules("data.dataset").Samples(torch.zeros(3, 1), torch.zeros(2))


def test_splits_know_their_sizes(modules):
    dataset = modules("data.dataset")
    classes = dataset.Samples(torch.zeros(4, 2, 3), torch.tensor([0, 2, 1, 0]))
    numbers = dataset.Samples(torch.zeros(4, 5), torch.zeros(4))

    assert dataset.Splits(classes, classes, classes).num_samples == 12
    assert dataset.Splits(classes, classes, classes).num_features == 6
    assert dataset.Splits(classes, classes, classes).num_outputs == 3
    assert dataset.Splits(numbers, numbers, numbers).num_outputs == 1


def test_standardising_is_learned_from_the_training_samples(modules):
    fit = modules("data.preprocess").Standardiser.fit
    train = torch.tensor([[1.0, 5.0], [3.0, 5.0]])

    standardise = fit(train)

    assert standardise(train).tolist() == [[-1.0, 0.0], [1.0, 0.0]]
    assert standardise(torch.tensor([[4.0, 6.0]])).tolist() == [[2.0, 1.0]]


def test_splitting_deals_every_index_once(modules):
    split = modules("data.preprocess").split_indices

    parts = split(11, parts=(0.6, 0.2, 0.2), seed=3)

    assert [len(part) for part in parts] == [7, 2, 2]
    assert sorted(torch.cat(parts).tolist()) == list(range(11))
    again = split(11, parts=(0.6, 0.2, 0.2), seed=3)
    assert all(a.equal(b) for a, b in zip(parts, again, strict=True))
    assert not parts[0].equal(split(11, parts=(0.6, 0.2, 0.2), seed=4)[0])


def test_the_loop_says_the_mean_loss_and_the_largest_gradient(modules):
    """One weight w, targets 0, loss w² x²: the numbers are worked out by hand."""
    trainer = modules("training.trainer")
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2.0)
    batches = [
        (torch.tensor([[1.0], [1.0]]), torch.zeros(2)),
        (torch.tensor([[3.0]]), torch.zeros(1)),
    ]

    history = trainer.train(
        model,
        batches,
        lambda outputs, targets: (outputs[:, 0] - targets).square().mean(),
        torch.optim.SGD(model.parameters(), lr=0.0),
        epochs=2,
        device=torch.device("cpu"),
    )

    assert history.losses == pytest.approx([(2 * 4 + 36) / 3] * 2)
    assert history.grad_norms == pytest.approx([36.0] * 2)


def test_the_loop_learns_and_leaves_the_model_trained(modules):
    trainer = modules("training.trainer")
    torch.manual_seed(0)
    inputs = torch.randn(64, 3)
    targets = inputs @ torch.tensor([1.0, -2.0, 0.5])
    model = nn.Linear(3, 1)
    optimizer = trainer.build_optimizer(model, learning_rate=0.1)
    assert type(optimizer) is torch.optim.AdamW

    history = trainer.train(
        model,
        [(inputs, targets)],
        lambda outputs, targets: (outputs[:, 0] - targets).square().mean(),
        optimizer,
        epochs=60,
        device=torch.device("cpu"),
    )

    assert history.losses[-1] < history.losses[0] / 10


def test_the_loop_shows_a_nan_and_goes_on(modules, caplog):
    trainer = modules("training.trainer")
    model = nn.Linear(1, 1)

    history = trainer.train(
        model,
        [(torch.ones(1, 1), torch.ones(1))],
        lambda outputs, targets: (outputs - outputs).sqrt().mean() * math.inf,
        torch.optim.SGD(model.parameters(), lr=0.1),
        epochs=1,
        device=torch.device("cpu"),
    )

    assert math.isnan(history.losses[0])
    assert math.isnan(history.grad_norms[0])
    assert "the loss is nan: lower the learning rate, or look at the loss" in caplog.text


def test_predictions_come_in_order_and_without_dropout(modules):
    evaluator, dataset = modules("testing.evaluator"), modules("data.dataset")
    samples = dataset.Samples(torch.arange(5.0)[:, None], torch.zeros(5))
    model = nn.Sequential(nn.Dropout(0.9))

    outputs = evaluator.predict(model, samples, batch_size=2, device=torch.device("cpu"))

    assert outputs.tolist() == [[0.0], [1.0], [2.0], [3.0], [4.0]]


def test_the_trivial_answer_is_the_best_without_inputs(modules):
    trivial = modules("testing.evaluator").trivial_outputs

    classes = trivial(torch.tensor([0, 2, 2, 2]), 3)
    numbers = trivial(torch.tensor([1.0, 2.0, 6.0]), 2)

    assert classes.shape == (3, 3)
    assert classes[0].exp().tolist() == pytest.approx([2 / 7, 1 / 7, 4 / 7])
    assert numbers.tolist() == [3.0, 3.0]


def test_a_run_trains_tests_and_records(modules, project: Path, tmp_path: Path, capsys):
    modules("run").main(["--epochs", "3", "--output", str(tmp_path / "out")])

    record = read_record(tmp_path / "out" / "run.json")
    assert record.epochs == 3
    assert record.command == f"python run.py --epochs 3 --output {tmp_path / 'out'}"
    assert record.datasets["iris"].samples == 150
    assert [(t.dataset, t.model, t.seed) for t in record.trainings] == [
        ("iris", "small_net", 0),
        ("iris", "small_net", 1),
    ]
    for training in record.trainings:
        assert len(training.losses) == len(training.grad_norms) == 3
        assert training.losses[2] < training.losses[0]
        assert 0 < training.metrics["accuracy"] <= 1
        assert training.baseline["accuracy"] < 0.5
        assert training.model_extra == {"test_samples": 30}


def test_the_same_seed_gives_the_same_losses(modules, tmp_path: Path):
    losses = []
    for name in ("a", "b"):
        modules("run").main(["--epochs", "2", "--seeds", "5", "--output", str(tmp_path / name)])
        losses.append(read_record(tmp_path / name / "run.json").trainings[0].losses)

    assert losses[0] == losses[1]


def test_the_plan_sets_what_the_command_line_leaves_open(modules, capsys):
    parse = modules("run").parse

    options = parse([])

    assert (options.epochs, list(options.seeds), options.learning_rate) == (4, [0, 1], 0.01)
    assert options.output.parent == Path("runs")
    with pytest.raises(SystemExit):
        parse(["--epochs", "0"])
    assert "argument --epochs: 0 is not a number from 1" in capsys.readouterr().err


def test_it_runs_as_a_program_and_its_tests_tell_what_is_untested(project: Path, tmp_path: Path):
    run = subprocess.run(
        [sys.executable, "run.py", "--epochs", "2", "--seeds", "0", "--output", str(tmp_path)],
        cwd=project,
        capture_output=True,
        text=True,
    )
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=project,
        capture_output=True,
        text=True,
    )

    assert run.returncode == 0, run.stderr
    assert f"record: {tmp_path / 'run.json'}" in run.stdout
    assert json.loads((tmp_path / "run.json").read_text())["format"] == 1
    assert "3 failed, 2 passed" in tests.stdout
    assert "Failed: Not tested yet: SmallNet" in tests.stdout


def test_a_new_project_fails_where_nothing_is_written_yet(tmp_path: Path):
    fresh = new_workspace(tmp_path, training="- epochs: 2\n- optimizer: Lion\n") / "project"

    with imported(fresh) as modules:
        with pytest.raises(
            NotImplementedError, match=r"Iris: read .*iris\.csv into Splits, by seed 0"
        ):
            modules("run").main([])
        with pytest.raises(NotImplementedError, match=r"Small net: make its layers, and write"):
            modules("model").SmallNet(num_features=1, num_outputs=1)
        with pytest.raises(NotImplementedError, match=r"Cross entropy: write its formula\."):
            modules("training.loss").cross_entropy(torch.zeros(1), torch.zeros(1))
        with pytest.raises(NotImplementedError, match=r"Accuracy: write it\."):
            modules("testing.metrics").accuracy(torch.zeros(1), torch.zeros(1))
        with pytest.raises(NotImplementedError, match=r"build the optimizer that it means\."):
            modules("training.trainer").build_optimizer(nn.Linear(1, 1), learning_rate=0.1)
