"""Training: from a configuration to a run folder, and on from where a run stopped.

`train` and `resume` are the doors; `Session` holds what a run needs; `Session.run` is the loop.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from paraformer_asr import checkpoints
from paraformer_asr.config import Config, config_to_dict
from paraformer_asr.curves import draw_curves
from paraformer_asr.data.batches import Batch, Batches
from paraformer_asr.data.build import build_datasets, build_tokenizer
from paraformer_asr.devices import peak_memory_mib, pick_device, set_matmul, use_fast_matmul
from paraformer_asr.errors import AsrError, Stopped
from paraformer_asr.models import build_model
from paraformer_asr.runs import Run, environment
from paraformer_asr.seed import deterministic, random_state, seed_all, set_random_state
from paraformer_asr.trainer import StepResult, Trainer
from paraformer_asr.validate import validate
from paraformer_asr.watch import NotFinite


def train(config: Config, *, progress: bool = True) -> Path:
    """Train a configuration from the start; returns the run folder.

    Args:
        config: everything about the run.
        progress: show a progress bar on stderr.
    Raises:
        AsrError: data, device or settings that do not work; found before the folder is made.
        NotFinite: the loss became NaN or infinite; the folder holds the last checkpoint.
        Stopped: SIGINT or SIGTERM; the folder can be resumed.
    """
    session = Session(config)
    session.begin(Run.create(config))
    return session.run(progress=progress)


def resume(folder: str | Path, *, progress: bool = True) -> Path:
    """Go on with a run from its newest checkpoint, exactly as if it had never stopped."""
    run = Run.open(Path(folder))
    state = checkpoints.load_newest(run.folder)
    if state["step"] >= run.config.train.steps or state["done"]:
        raise AsrError(
            f"{run.folder} is finished: {state['step']} of {run.config.train.steps} steps. Start a "
            "new run, with train.init_from set to this folder to begin with its weights."
        )
    session = Session(run.config, matmul=state["matmul"])
    session.restore(run, state)
    return session.run(progress=progress)


class Session:
    """A run while it trains: data, trainer, and where in the data it stands."""

    def __init__(self, config: Config, *, matmul: str | None = None) -> None:
        self.config = config
        self.device = pick_device(config.train.device)
        if config.train.threads is not None:
            torch.set_num_threads(config.train.threads)
        seed_all(config.seed)
        deterministic(config.train.deterministic)
        if matmul is not None:
            self.matmul = set_matmul(matmul)
        elif config.train.fast_matmul:
            self.matmul = use_fast_matmul(self.device)
        else:
            self.matmul = set_matmul("highest")

        self.warnings: list[str] = []
        datasets = build_datasets(config, warn=self.warnings.append)
        tokenizer = build_tokenizer(config, datasets)
        model = build_model(config, tokenizer=tokenizer)
        self.datasets = datasets
        if config.train.init_from is not None:
            source = checkpoints.load_model(config.train.init_from, "cpu")
            weights, characters = source.model.state_dict(), source.model.tokenizer.characters
            checkpoints.fill(model, weights, characters, source=str(source.path))
        self.model = model.to(self.device)
        self.train_batches = Batches(
            datasets["train"], model.frontend, tokenizer, config, train=True
        )
        self.valid_batches = Batches(
            datasets["valid"], model.frontend, tokenizer, config, train=False
        )
        self.step = self.epoch = self.position = 0
        self.elapsed = 0.0
        """Seconds of training so far, those before a resumption included."""
        self.best: dict[str, float] = {}
        """Step and numbers of the best validation."""

    def begin(self, run: Run) -> None:
        """Start a new run: measure the features, write what the folder needs."""
        self.run_folder = run
        if self.config.train.init_from is None:
            dataset = self.datasets["train"]
            number = min(len(dataset), self.config.features.cmvn_utterances)
            every = len(dataset) / number  # spread over the split, whatever its order
            picked = (dataset.load(int(i * every)).frames for i in range(number))
            self.model.frontend.fit(picked)
        self.trainer = Trainer(self.model, self.config, self.device)
        self.model.tokenizer.save(run.folder / "tokens.txt")
        run.write_json(
            "environment.json", environment(device=str(self.device), matmul=str(self.matmul))
        )
        for warning in self.warnings:
            run.say(f"warning: {warning}")
        sizes = ", ".join(f"{len(data)} {split}" for split, data in self.datasets.items())
        parameters = sum(p.numel() for p in self.model.parameters())
        run.say(f"{run.folder}: {parameters:,} parameters, {sizes} utterances, {self.device}")
        run.say(str(self.matmul))

    def restore(self, run: Run, state: dict[str, Any]) -> None:
        """Put a stopped run back to its checkpoint; the random states last, when all is built."""
        self.run_folder = run
        weights = state["model"]
        checkpoints.fill(self.model, weights, state["characters"], source=str(run.folder))
        self.trainer = Trainer(self.model, self.config, self.device)
        self.trainer.load_state_dict(state)
        self.step, self.epoch, self.position = state["step"], state["epoch"], state["position"]
        self.elapsed, self.best = state["elapsed"], state["best"]
        run.rewind(self.step)
        run.say(f"resumed after step {self.step}")
        set_random_state(state["random"])

    def run(self, *, progress: bool) -> Path:
        """Train until the last step, the end of the time, or a signal."""
        settings = self.config.train
        started = time.monotonic() - self.elapsed
        since_log: list[StepResult] = []
        log_time = time.monotonic()
        bar = tqdm(total=settings.steps, initial=self.step, disable=not progress, unit="step")
        with bar, catch_signals() as caught:
            while not self.done(started):
                self.elapsed = time.monotonic() - started
                result = self._step()
                since_log.append(result)
                bar.update()
                self.elapsed = time.monotonic() - started

                done = self.done(started)
                if self.step % settings.log_every == 0 or done:
                    self._log(since_log, time.monotonic() - log_time)
                    since_log, log_time = [], time.monotonic()
                if self.step % settings.valid_every == 0 or done:
                    self._validate()
                    log_time = time.monotonic()
                if self.step % settings.checkpoint_every == 0 or done or caught:
                    self._save("last", done=done)
                if caught and not done:
                    stopped = Stopped(self.run_folder.folder, self.step, caught[0])
                    self.run_folder.say(str(stopped))
                    raise stopped
        self._finish()
        return self.run_folder.folder

    def done(self, started: float) -> bool:
        """All steps are made or, with train.max_minutes, the time is over."""
        limit = self.config.train.max_minutes
        over = limit is not None and self.step > 0 and time.monotonic() - started >= 60 * limit
        return self.step >= self.config.train.steps or over

    def _progress(self) -> float:
        limit = self.config.train.max_minutes
        by_time = self.elapsed / (60 * limit) if limit is not None else 0.0
        return max(self.step / self.config.train.steps, by_time)

    def _step(self) -> StepResult:
        batches = [self._next_batch() for _ in range(self.config.train.accumulate)]
        try:
            result = self.trainer.step(batches, step=self.step, progress=self._progress())
        except NotFinite as error:
            self.run_folder.say(f"error: {error}")
            raise
        self.step += 1
        return result

    def _next_batch(self) -> Batch:
        if self.position >= self.train_batches.num(self.epoch):
            self.epoch, self.position = self.epoch + 1, 0
        batch = self.train_batches.get(self.epoch, self.position)
        self.position += 1
        return batch

    def _log(self, results: Sequence[StepResult], seconds: float) -> None:
        """A row of metrics.csv: means over the steps since the last one."""
        number = len(results)
        row: dict[str, float] = {
            "step": self.step,
            "lr": self.trainer.optimizer.param_groups[0]["lr"],
            "loss": sum(r.loss for r in results) / number,
            "grad_norm": sum(r.grad_norm for r in results) / number,
            "accuracy": sum(r.accuracy for r in results) / number,
            "utterances_per_second": sum(r.utterances for r in results) / max(seconds, 1e-9),
        }
        for name in results[0].terms:
            row[name] = sum(r.terms[name] for r in results) / number
        self.run_folder.row(row)

    def _validate(self) -> None:
        numbers = validate(self.trainer.shipped, self.valid_batches, self.trainer.losses)
        self.run_folder.row({"step": self.step, **numbers})
        shown = ", ".join(f"{name} {value:.4f}" for name, value in numbers.items())
        self.run_folder.say(f"step {self.step}: {shown}")
        # The loss decides between equal error rates, such as 100 % at the start.
        key = (numbers["valid_cer"], numbers["valid_loss"])
        if not self.best or key < (self.best["valid_cer"], self.best["valid_loss"]):
            self.best = {"step": self.step, **numbers}
            self._save("best")

    def _save(self, name: str, *, done: bool = False) -> None:
        """last.pt with everything; best.pt with what is needed to use the model."""
        state: dict[str, Any] = {
            "step": self.step,
            "config": config_to_dict(self.config),
            "characters": list(self.model.tokenizer.characters),
        }
        if name == "best":
            state |= {"model": self.trainer.shipped.state_dict(), "metrics": self.best}
        else:
            state |= self.trainer.state_dict()
            state |= {"epoch": self.epoch, "position": self.position, "elapsed": self.elapsed}
            state |= {"best": self.best, "random": random_state(), "done": done}
            state |= {"matmul": self.matmul.precision}
        checkpoints.save(self.run_folder.checkpoint(name), state)

    def _finish(self) -> None:
        shipped = sum(parameter.numel() for parameter in self.model.parameters())
        self.run_folder.write_json(
            "metrics.json",
            {
                "steps": self.step,
                "minutes": round(self.elapsed / 60, 3),
                "parameters": shipped,
                "best_step": int(self.best["step"]),
                **{f"best_{name}": value for name, value in self.best.items() if name != "step"},
                "peak_memory_mib": round(peak_memory_mib(self.device)),
            },
        )
        draw_curves(self.run_folder.folder)
        cer, minutes = self.best["valid_cer"], self.elapsed / 60
        self.run_folder.say(
            f"done: {self.step} steps in {minutes:.1f} minutes, best error rate on the validation "
            f"split {100 * cer:.2f} % after step {int(self.best['step'])}"
        )


@contextmanager
def catch_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying of them; a second SIGINT does interrupt.

    Signals reach only the main thread; elsewhere the list stays empty.
    """
    caught: list[int] = []

    def remember(number: int, frame: object) -> None:  # noqa: ARG001
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    try:
        before = [signal.signal(number, remember) for number in numbers]
    except ValueError:  # not the main thread
        yield caught
        return
    try:
        yield caught
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
