"""Training: what it leaves behind, exact resumption, stopping, and losses that fall."""

from __future__ import annotations

import json
import os
import signal
import threading

import pytest
import torch
from small import small_config

from paraformer_asr import checkpoints
from paraformer_asr import train as training
from paraformer_asr.data.batches import Batches
from paraformer_asr.data.build import build_datasets
from paraformer_asr.decode import decode_batch
from paraformer_asr.errors import AsrError, Stopped
from paraformer_asr.metrics import error_rate
from paraformer_asr.models import build_model
from paraformer_asr.runs import Run
from paraformer_asr.train import Session, catch_signals, resume, train
from paraformer_asr.trainer import Trainer
from paraformer_asr.watch import NotFinite


@pytest.fixture(autouse=True)
def torch_as_before():
    """Training switches the whole process to deterministic algorithms; tests switch back."""
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_float32_matmul_precision("highest")


def weights_of(folder):
    return checkpoints.load_newest(folder)["model"]


def columns_of(folder):
    rows = Run.open(folder).rows()
    return [{k: v for k, v in row.items() if k != "utterances_per_second"} for row in rows]


def stopping_after(monkeypatch, step, number=signal.SIGTERM):
    """Send a signal to this process from within that step."""
    whole = Trainer.step

    def send(self, batches, *, step: int, progress: float):
        if step + 1 == target:
            os.kill(os.getpid(), number)
        return whole(self, batches, step=step, progress=progress)

    target = step
    monkeypatch.setattr(Trainer, "step", send)


def test_a_run_leaves_everything_behind(tmp_path):
    folder = train(small_config(out=str(tmp_path)), progress=False)
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {
        *("config.yaml", "environment.json", "tokens.txt", "log.txt", "metrics.csv"),
        *("metrics.json", "curves.png"),
        *("checkpoints/last.pt", "checkpoints/previous.pt", "checkpoints/best.pt"),
    }
    numbers = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert numbers["steps"] == 6
    assert numbers["best_valid_cer"] >= 0
    rows = Run.open(folder).rows()
    assert [row["step"] for row in rows if row["loss"]] == ["1", "2", "3", "4", "5", "6"]
    assert [row["step"] for row in rows if row["valid_cer"]] == ["3", "6"]
    assert checkpoints.load_model(folder, "cpu").model.frontend.shift.abs().sum() > 0


def test_a_smoke_run_halves_the_loss(tmp_path):
    config = small_config(
        out=str(tmp_path),
        data={"toy": {"num_train": 100}, "batch_frames": 400},
        model={"dim": 32, "ffn": 32, "dropout": 0.0},
        loss={"label_smoothing": 0.0},
        optim={"lr": 5e-3, "warmup_steps": 10},
        train={"steps": 90, "log_every": 10, "valid_every": 90, "checkpoint_every": 90},
    )
    folder = train(config, progress=False)
    losses = [float(row["loss"]) for row in Run.open(folder).rows() if row["loss"]]
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize(
    ("encoder", "decoder"), [("transformer", "san"), ("conformer", "san"), ("sanm", "sanm")]
)
def test_one_batch_is_learned_by_heart(encoder, decoder):
    torch.manual_seed(0)
    config = small_config(
        data={
            "toy": {"alphabet": "abcdefgh", "num_train": 8, "tokens": [2, 6]},
            "batch_frames": 900,
        },
        model={
            "encoder": encoder,
            "decoder": decoder,
            "dim": 32,
            "ffn": 64,
            "encoder_layers": 2,
            "dropout": 0.0,
        },
        loss={"label_smoothing": 0.0},
        optim={"lr": 4e-3, "warmup_steps": 10, "schedule": "constant", "weight_decay": 0.0},
    )
    datasets = build_datasets(config)
    model = build_model(config)
    model.frontend.fit(datasets["train"].load(i).frames for i in range(8))
    batches = Batches(datasets["train"], model.frontend, model.tokenizer, config, train=True)
    trainer = Trainer(model, config, torch.device("cpu"))
    batch = batches.get(0, 0)
    for step in range(250):
        result = trainer.step([batch], step=step, progress=0.0)
    assert result.accuracy == 1.0
    model.eval()
    texts = [found.text for found in decode_batch(model, batch.feats, batch.feat_lens)]
    assert error_rate(batch.texts, texts).rate <= 0.05


@pytest.mark.parametrize("average", [None, 0.9])
def test_a_resumed_run_equals_one_that_never_stopped(tmp_path, monkeypatch, average):
    config = small_config(out=str(tmp_path), optim={"average": average}, train={"accumulate": 2})
    whole = train(config, progress=False)
    with monkeypatch.context() as patched:
        stopping_after(patched, 3)
        with pytest.raises(Stopped) as caught:
            train(config, progress=False)
    assert caught.value.exit_code == 143
    assert caught.value.step == 3
    folder = caught.value.run
    assert str(caught.value).endswith(f"train --resume {folder}")
    torch.manual_seed(99)  # whatever happened in between
    assert resume(folder, progress=False) == folder
    assert columns_of(folder) == columns_of(whole)
    for name, value in weights_of(whole).items():
        assert torch.equal(value, weights_of(folder)[name]), name


def test_a_killed_run_goes_on_from_its_last_checkpoint(tmp_path, monkeypatch):
    config = small_config(out=str(tmp_path))
    whole = train(config, progress=False)
    original = Trainer.step

    def die(self, batches, *, step, progress):
        if step == 4:
            raise SystemExit("killed")
        return original(self, batches, step=step, progress=progress)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "step", die)
        with pytest.raises(SystemExit):
            train(config, progress=False)
    (folder,) = (path for path in tmp_path.iterdir() if path != whole)
    resume(folder, progress=False)
    assert columns_of(folder) == columns_of(whole)


def test_a_finished_run_is_not_resumed(tmp_path):
    folder = train(small_config(out=str(tmp_path)), progress=False)
    with pytest.raises(AsrError, match=r"is finished: 6 of 6 steps\. Start a new run"):
        resume(folder)


def test_a_limit_of_time_ends_a_run_whole(tmp_path):
    config = small_config(
        out=str(tmp_path), train={"steps": 10**6, "max_minutes": 1e-4, "log_every": 10**6}
    )
    folder = train(config, progress=False)
    steps = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["steps"]
    assert 1 <= steps < 10**6
    assert Run.open(folder).rows()[-1]["valid_cer"] != ""
    with pytest.raises(AsrError, match="is finished"):
        resume(folder)


def test_parts_of_a_step_are_one_big_batch():
    config = small_config(
        data={"toy": {"num_train": 12}, "batch_frames": 10**6, "bucketing": False},
        model={"sampling_ratio": 0.0, "dropout": 0.0},
        optim={"name": "sgd", "lr": 0.1, "momentum": 0.0, "weight_decay": 0.0, "grad_clip": None},
    )
    datasets = build_datasets(config)
    results = []
    for max_batch in (12, 5):  # 12 at once, or 5 + 5 + 2
        torch.manual_seed(0)
        model = build_model(config)
        cut = small_config(
            data={
                "toy": {"num_train": 12},
                "batch_frames": 10**6,
                "bucketing": False,
                "max_batch": max_batch,
            }
        )
        batches = Batches(datasets["train"], model.frontend, model.tokenizer, cut, train=True)
        trainer = Trainer(model, config, torch.device("cpu"))
        parts = [batches.get(0, i) for i in range(batches.num(0))]
        assert len(parts) == (1 if max_batch == 12 else 3)
        results.append((trainer.step(parts, step=0, progress=0.0), model.state_dict()))
    (one, weights), (many, other) = results
    assert many.loss == pytest.approx(one.loss, rel=1e-5)
    assert many.grad_norm == pytest.approx(one.grad_norm, rel=1e-5)
    assert many.accuracy == one.accuracy
    for name, value in weights.items():
        torch.testing.assert_close(other[name], value, atol=1e-5, rtol=1e-5)


def test_a_loss_that_is_not_finite_stops_before_the_update(tmp_path, monkeypatch):
    config = small_config(out=str(tmp_path), train={"steps": 3})
    session = Session(config)
    session.begin(Run.create(config))
    before = {name: value.clone() for name, value in session.model.state_dict().items()}
    monkeypatch.setattr(
        session.model.decoder.norm, "forward", lambda x: x * float("nan"), raising=True
    )
    with pytest.raises(NotFinite, match=r"step 1: the loss is nan; .* Utterances: "):
        session.run(progress=False)
    for name, value in session.model.state_dict().items():
        assert torch.equal(value, before[name])
    log = (session.run_folder.folder / "log.txt").read_text(encoding="utf-8")
    assert "error: step 1" in log


def test_a_new_run_can_begin_with_the_weights_of_another(tmp_path):
    first = train(small_config(out=str(tmp_path)), progress=False)
    config = small_config(out=str(tmp_path), train={"init_from": str(first), "steps": 1})
    session = Session(config)
    best = checkpoints.load(first / "checkpoints" / "best.pt")["model"]
    for name, value in session.model.state_dict().items():
        assert torch.equal(value, best[name]), name
    session.begin(Run.create(config))
    assert torch.equal(session.model.frontend.shift, best["frontend.shift"])


def test_weights_of_another_vocabulary_are_refused_before_a_folder_is_made(tmp_path):
    first = train(small_config(out=str(tmp_path / "a")), progress=False)
    other = small_config(
        out=str(tmp_path / "b"),
        data={"toy": {"alphabet": "wxyz"}},
        train={"init_from": str(first)},
    )
    with pytest.raises(AsrError, match="was trained with another vocabulary"):
        train(other, progress=False)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains(tmp_path, precision):
    config = small_config(out=str(tmp_path), train={"precision": precision})
    folder = train(config, progress=False)
    state = checkpoints.load_newest(folder)
    assert all(value.dtype != torch.float16 for value in state["model"].values())
    assert Run.open(folder).rows()[-1]["valid_cer"] != ""


def test_an_fp16_scale_below_one_stops_the_run():
    config = small_config(train={"precision": "fp16"})
    trainer = Trainer(build_model(config), config, torch.device("cpu"))
    trainer.scaler.scale(torch.ones(()))  # the scale exists from its first use on
    trainer.scaler.update(0.5)
    with pytest.raises(NotFinite, match="the fp16 loss scale fell below 1"):
        trainer._check([], {}, 0, 1.0, float("inf"), 1e-3)


def test_warnings_about_the_data_are_logged(tmp_path, monkeypatch):
    monkeypatch.setattr(
        training,
        "build_datasets",
        lambda config, warn: (warn("x.wav is odd"), build_datasets(config))[1],
    )
    folder = train(small_config(out=str(tmp_path)), progress=False)
    assert "warning: x.wav is odd" in (folder / "log.txt").read_text(encoding="utf-8")


def test_a_second_signal_interrupts():
    with catch_signals() as caught:
        os.kill(os.getpid(), signal.SIGINT)
        assert caught == [signal.SIGINT]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_signals_are_left_alone_outside_of_the_main_thread():
    caught_in_thread = []

    def work():
        with catch_signals() as caught:
            caught_in_thread.append(caught)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert caught_in_thread == [[]]
