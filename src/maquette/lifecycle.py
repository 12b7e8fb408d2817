"""The main path: a recipe goes in, a bundle comes out. Read `_run` from top to bottom.

train        recipe -> Run: data, preprocessing, network, training, evaluation, bundle, report
resume_run   the same, continued where a run was killed
evaluate     bundle -> metrics on a split of its data, or on other labelled data
load         path or registry URI -> Bundle
predict_file bundle + file -> file of predictions
register     run -> a version in the model registry
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maquette.bundle import Bundle, load_bundle, save_bundle
from maquette.device import Device, choose_device, describe
from maquette.device.memory import PeakMemory
from maquette.device.selftest import self_test
from maquette.errors import DataError, TrackingError, UsageError
from maquette.files import write_json
from maquette.judging import judge_of
from maquette.outcome import reference_inputs, summarise
from maquette.recipe import Recipe, make_recipe, read_recipe, with_absolute_paths
from maquette.runs import RunFolder
from maquette.tasks import make_task
from maquette.tasks.base import CoupledTask, Json, Splits, Task
from maquette.tracking import mirror_and_register
from maquette.training.auto_batch import measured_recipe
from maquette.training.callbacks import Callback
from maquette.training.fast_matmul import fast_matmul
from maquette.training.loop import fit
from maquette.training.scoring import score
from maquette.training.seeding import seed_everything
from maquette.training.threads import fitting_threads


@dataclass(frozen=True)
class Run:
    """A finished run: where it is and what came out."""

    folder: Path
    summary: Mapping[str, Any]
    tracked: str
    """One line: which registered version this became, or why it is not tracked."""

    @property
    def bundle(self) -> Path:
        """The bundle folder; `maquette.load(run.bundle)` loads it."""
        return RunFolder(self.folder).bundle

    @property
    def report(self) -> Path:
        """The report, one HTML file."""
        return RunFolder(self.folder).report_file

    @property
    def metrics(self) -> dict[str, float]:
        """Every final metric by its prefixed name: test/accuracy, valid/loss, …"""
        return dict(self.summary["metrics"])

    def lines(self) -> list[str]:
        """What to see first: the test metrics, the report, the registered version."""
        table = judge_of(self.summary["task"]).table(self.summary)
        return [*table, f"report: {self.report}", self.tracked]


def train(
    recipe: str | Path | Recipe | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    callbacks: Sequence[Callback] = (),
) -> Run:
    """Train a recipe from the data to a registered bundle.

    Args:
        recipe: a YAML file, a `Recipe`, or nested dictionaries of the same keys.
        overrides: "key=value" changes, for example "training.epochs=5".
        callbacks: watch the training; they cannot change it.
    Raises:
        RecipeError: the recipe cannot be meant.
        DataError: the data cannot be used; no run folder is made.
        RunError: the training stopped; the run folder says where, and can be resumed.
    """
    started = time.perf_counter()
    resolved = with_absolute_paths(_read(recipe, overrides))
    choose_device(resolved.device, resolved.training.precision)  # refused before data is read
    task = make_task(resolved)
    splits = task.load()
    folder = RunFolder.create(resolved)
    write_json(folder.splits_file, {name: list(ids) for name, ids in splits.assignment.items()})
    return _run(folder, task, splits, callbacks=callbacks, resume=False, started=started)


def resume_run(path: str | Path, *, callbacks: Sequence[Callback] = ()) -> Run:
    """Continue a run that was killed; the result equals that of a run that never stopped.

    Raises:
        UsageError: no run folder, or a run that has already ended.
        DataError: the data is no longer what the run began with.
    """
    started = time.perf_counter()
    folder = RunFolder.open(path)
    if folder.summary_file.is_file():
        raise UsageError(f"{path} has already ended; its results are in {folder.summary_file}.")
    task = make_task(folder.recipe())
    splits = task.load()
    _refuse_other_data(folder, splits)
    return _run(folder, task, splits, callbacks=callbacks, resume=True, started=started)


def _run(
    folder: RunFolder,
    task: Task[Any],
    splits: Splits[Any],
    *,
    callbacks: Sequence[Callback],
    resume: bool,
    started: float,
) -> Run:
    """The one path from data to bundle, in the order it happens."""
    recipe = task.recipe
    device = _trusted_device(recipe, folder)
    seed_everything(recipe.seed, deterministic=recipe.deterministic)
    folder.log("run resumed" if resume else "run started", recipe=recipe.name, device=device.name)

    preprocessor = task.fit_preprocessor(splits.train)
    model = task.build_model(preprocessor)
    if (used := task.load_initial_weights(model)) is not None:
        folder.log("initial weights", report=used)
    model.to(device.torch_device)
    if recipe.training.batch_size == "auto":
        recipe, found = measured_recipe(
            recipe,
            task=task,
            model=model,
            source=task.prepare(splits.train, preprocessor, augment=False),
            device=device,
        )
        folder.replace_recipe(recipe)
        folder.log("batch size", batch_size=recipe.training.batch_size, measured=found.lines)
        task.recipe = recipe
    learn = task.prepare(splits.train, preprocessor, augment=True)
    valid = task.prepare(splits.valid, preprocessor, augment=False)
    size = recipe.training.micro_batch
    threads = fitting_threads(model, learn, batch_size=size)
    products = fast_matmul(model, learn, batch_size=size, device=device, folder=folder)
    with threads, products, PeakMemory(device) as memory:
        fitted = fit(
            task=task,
            preprocessor=preprocessor,
            model=model,
            train=learn,
            valid=valid,
            recipe=recipe,
            folder=folder,
            device=device,
            callbacks=callbacks,
            resume=resume,
        )

    finished: Json = {}
    if isinstance(task, CoupledTask):
        finished = task.finish(
            model,
            preprocessor,
            evaluate=lambda: score(task, preprocessor, model, valid, device=device).metrics,
        )
        folder.log("finished", **finished)

    judge = judge_of(recipe.model.type)
    outcome = judge.measure(
        task, preprocessor, model, splits, valid=valid, device=device, finished=finished
    )
    profile = task.profile(splits.train)
    save_bundle(
        folder.bundle,
        recipe=recipe,
        preprocessor=preprocessor,
        model=model,
        metrics=outcome.metrics,
        profile=profile,
        probes=reference_inputs(task, splits, recipe.evaluation.probes),
    )
    summary = summarise(
        recipe,
        fitted=fitted,
        outcome=outcome,
        splits=splits,
        environment=describe(),
        seconds=time.perf_counter() - started,
    )
    summary["system"] = {"peak_memory_mib": round(memory.bytes / 2**20, 1)}
    summary |= judge.facts(task, outcome, splits)
    judge.report(
        folder,
        task=task,
        splits=splits,
        profile=profile,
        fitted=fitted,
        outcome=outcome,
        summary=summary,
    )
    folder.write_summary(summary)
    folder.log("run ended", metrics=outcome.metrics)
    return Run(folder.path, summary, tracked=_track(folder, recipe))


def load(bundle: str | Path, *, device: str = "auto") -> Bundle:
    """Load a bundle from a folder, a run folder, or a registry URI (models:/NAME@champion).

    Raises:
        BundleError: not a bundle, damaged, from a newer version, or not reproducible here.
        TrackingError: the registry has no such model, or cannot be reached.
    """
    return load_bundle(locate(bundle), device=device)


def locate(bundle: str | Path, *, runs_dir: str | Path = "runs") -> Path:
    """Return the local folder of a bundle given by path or registry URI."""
    if str(bundle).startswith(("models:/", "runs:/")):
        from maquette.track.registry import fetch

        return fetch(str(bundle), runs_dir=runs_dir)
    return Path(bundle)


def evaluate(
    bundle: str | Path, *, data: str | None = None, split: str = "test"
) -> dict[str, float]:
    """Measure a bundle.

    Args:
        bundle: folder, run folder or registry URI.
        data: labelled data in the form of the training data; all of it is used. When absent, the
            recipe's own data is read and split again.
        split: train, valid or test, of the recipe's own data.
    Raises:
        UsageError: there is no such split.
        DataError: the data cannot be used.
    """
    loaded, samples = _samples_of(bundle, data=data, split=split)
    task = loaded.task_object
    source = task.prepare(samples, loaded.preprocessor, augment=False)
    scores = score(task, loaded.preprocessor, loaded.model, source, device=loaded.device)
    return scores.metrics


def evaluate_at_sizes(
    bundle: str | Path, sizes: Sequence[int], *, data: str | None = None, split: str = "test"
) -> list[dict[str, Any]]:
    """Measure an image-text bundle with images of several sizes: [{size, metrics}, …].

    Raises:
        UsageError: no such split, another task, or a size that the patches do not divide.
        DataError: the data cannot be used.
    """
    from maquette.pair_outcome import evaluate_sizes
    from maquette.tasks.image_text.task import ImageTextTask

    loaded, samples = _samples_of(bundle, data=data, split=split)
    task = loaded.task_object
    if not isinstance(task, ImageTextTask):
        raise UsageError(
            f"{bundle} is a model of task {loaded.task!r}, whose inputs have one size; "
            "leave --sizes out."
        )
    found = evaluate_sizes(
        task, loaded.preprocessor, loaded.model, samples, sizes, device=loaded.device
    )
    return [{"size": one.size, "metrics": dict(one.metrics)} for one in found]


def _samples_of(bundle: str | Path, *, data: str | None, split: str) -> tuple[Bundle, Any]:
    """Load a bundle and what it is measured on."""
    if split not in ("train", "valid", "test"):
        raise UsageError(f"There is no split {split!r}; the splits are train, valid and test.")
    loaded = load(bundle)
    task = loaded.task_object
    if data is not None:
        return loaded, task.load_labelled(data, loaded.preprocessor)
    return loaded, getattr(task.load(), split)


def predict_file(bundle: str | Path, source: Path, output: Path) -> list[str]:
    """Predict every row or image of `source` into `output`; return lines that say what was done.

    Tables gain the column `prediction` and, for classes, one `probability_<class>` column each;
    images become JSON lines. `output` is written whole or not at all.
    """
    loaded = load(bundle)
    return loaded.task_object.predict_file(
        loaded.predict, loaded.preprocessor, source=source, output=output
    )


def register(path: str | Path, *, name: str | None = None) -> str:
    """Mirror a finished run to the tracking store, register its bundle, and say what was made.

    Raises:
        UsageError: not a run folder, or its run has not ended.
        TrackingError: the store cannot be used.
    """
    return mirror_and_register(RunFolder.open(path), name=name, register_model=True)


def _trusted_device(recipe: Recipe, folder: RunFolder) -> Device:
    """Choose the device and compare it with the CPU first; what is not right is not used."""
    device = choose_device(recipe.device, recipe.training.precision)
    if device.name == "cpu":
        return device
    tested = self_test(device)
    folder.log("self-test", passed=tested.passed, measured=tested.lines)
    if tested.warning is not None:
        sys.stderr.write(f"warning: {tested.warning}\n")
    return tested.device


def _track(folder: RunFolder, recipe: Recipe) -> str:
    """Tracking only mirrors: when it cannot be reached the run still ends well, and says so."""
    settings = recipe.tracking
    if not settings.enabled:
        return f"not tracked, as the recipe says; `maquette register {folder.path}` does it"
    try:
        return mirror_and_register(folder, name=None, register_model=settings.register_model)
    except TrackingError as error:
        reason = str(error).replace("RUN_FOLDER", str(folder.path))
        folder.log("not tracked", reason=reason)
        return f"not tracked: {reason}"


def _read(recipe: str | Path | Recipe | Mapping[str, Any], overrides: Sequence[str]) -> Recipe:
    if isinstance(recipe, (str, Path)):
        return read_recipe(recipe, overrides)
    if overrides:
        raise UsageError("Overrides change a recipe file; change the given recipe itself instead.")
    return recipe if isinstance(recipe, Recipe) else make_recipe(recipe)


def _refuse_other_data(folder: RunFolder, splits: Splits[Any]) -> None:
    """A run may only go on with the samples it began with."""
    if not folder.splits_file.is_file():
        return
    stored = json.loads(folder.splits_file.read_text(encoding="utf-8"))
    now = {name: list(ids) for name, ids in splits.assignment.items()}
    for name, ids in stored.items():
        changed = set(ids) ^ set(now.get(name, []))
        if changed or ids != now[name]:
            some = ", ".join(sorted(changed)[:3]) or "their order"
            raise DataError(
                f"The {name} split of {splits.report.source} is not the one this run began with "
                f"({len(ids)} then, {len(now.get(name, []))} now; differs in: {some}). "
                "Restore the data, or start a new run with `maquette train`."
            )
