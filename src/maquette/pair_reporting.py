"""From a finished image-text run to its report: gathers what `evaluation/pair_report.py` draws."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from maquette.data.images import encode_png
from maquette.evaluation.embedding_map import EmbeddingMap, pca_map, tsne_map
from maquette.evaluation.figure_files import pair_figures, write_figures
from maquette.evaluation.pair_gallery import GalleryRow, gallery_rows
from maquette.evaluation.pair_report import write_pair_report
from maquette.evaluation.pair_report_data import Neighbour, PairReportData, Query
from maquette.evaluation.report_data import Picture
from maquette.pair_outcome import PairOutcome
from maquette.recipe import dump_recipe
from maquette.runs import RunFolder
from maquette.tasks.base import Json, Splits
from maquette.tasks.image_text.data import ImageTextSamples
from maquette.tasks.image_text.task import ImageTextTask
from maquette.training.loop import FitResult

NUM_QUERIES = 6
NUM_NEIGHBOURS = 5
NUM_PICTURES = 12


def pair_report_of(
    folder: RunFolder,
    *,
    task: ImageTextTask,
    splits: Splits[ImageTextSamples],
    profile: Json,
    fitted: FitResult,
    outcome: PairOutcome,
    summary: Json,
) -> None:
    """Write report.html of a run, and its figures as files."""
    del profile  # it is for monitoring; the page shows the pairs themselves
    recipe, test = task.recipe, splits.test
    source = _near(splits.report.source)
    data = PairReportData(
        title=recipe.name,
        subtitle=f"{recipe.model.name} on {source}",
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        metrics=outcome.metrics,
        intervals=outcome.intervals,
        confidence=recipe.evaluation.confidence,
        baselines=outcome.baselines,
        chance=outcome.chance,
        num_images=len(np.unique(test.images)),
        num_texts=len(np.unique(test.text_groups)),
        history=fitted.history,
        best_epoch=fitted.best_epoch if recipe.training.checkpoint.save_best else None,
        monitor=fitted.monitor,
        wise_ft=outcome.wise_ft,
        sizes=outcome.sizes,
        image_size=task.setup.data.image_size,
        gallery=_gallery(test, outcome),
        zero_shot=outcome.zero_shot,
        linear_probe=outcome.linear_probe,
        embedding_maps=_maps(task, test, outcome),
        source=source,
        split_sizes=summary["samples"],
        class_counts=_class_counts(splits),
        pictures=_pictures(splits.train),
        data_facts=_data_facts(task, splits),
        warnings=[*splits.report.warnings, *task.notes, *task.setup.domain.pitfalls],
        quarantined=splits.report.quarantined,
        model_facts=_model_facts(task, outcome),
        timings=_timings(summary),
        environment=summary["environment"],
        recipe_yaml=dump_recipe(recipe),
        commands=_commands(folder, is_prompted=splits.train.is_prompted),
    )
    write_pair_report(folder.report_file, data)
    write_figures(folder.figures, pair_figures(data))


def _near(source: str) -> str:
    """A path as a reader of this folder would type it."""
    path, here = Path(source), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else source


def _png(samples: ImageTextSamples, row: int) -> bytes:
    image = samples.store.read([int(samples.images[row])], size=samples.store.size)[0]
    return encode_png(image)


def _text(samples: ImageTextSamples, row: int) -> str:
    """The caption, or the class for prompts."""
    if samples.is_prompted and samples.labels is not None:
        return str(samples.labels[row])
    return samples.texts[row][0]


def _gallery(test: ImageTextSamples, outcome: PairOutcome) -> list[Query]:
    queries = []
    for direction in ("text_to_image", "image_to_text"):
        rows = gallery_rows(
            outcome.ranks,
            outcome.images,
            outcome.texts,
            direction=direction,
            count=NUM_QUERIES,
            num_best=NUM_NEIGHBOURS,
        )
        queries += [_query(test, row) for row in rows]
    return queries


def _query(test: ImageTextSamples, found: GalleryRow) -> Query:
    return Query(
        direction=found.direction,
        caption=_text(test, found.row),
        picture_png=_png(test, found.row),
        rank=found.rank,
        best=[
            Neighbour(
                similarity=one.similarity,
                is_right=one.is_right,
                caption=_text(test, one.row),
                picture_png=_png(test, one.row) if found.direction == "text_to_image" else None,
            )
            for one in found.best
        ],
    )


def _maps(task: ImageTextTask, test: ImageTextSamples, outcome: PairOutcome) -> list[EmbeddingMap]:
    labels = None if test.labels is None else [str(label) for label in test.labels]
    captions = [_text(test, row) for row in range(len(test))]
    maps = [
        pca_map(outcome.images, outcome.texts, labels=labels, captions=captions),
        tsne_map(
            outcome.images,
            outcome.texts,
            labels=labels,
            captions=captions,
            seed=task.recipe.seed % 2**32,
        ),
    ]
    return [one for one in maps if one is not None]


def _class_counts(splits: Splits[ImageTextSamples]) -> dict[str, dict[str, int]] | None:
    parts = {"train": splits.train, "valid": splits.valid, "test": splits.test}
    counts = {}
    for name, samples in parts.items():
        if samples.labels is None:
            return None
        counts[name] = dict(Counter(str(label) for label in samples.labels))
    return counts


def _pictures(train: ImageTextSamples) -> list[Picture]:
    rows = np.linspace(0, len(train) - 1, num=min(NUM_PICTURES, len(train))).astype(int)
    return [Picture(caption=_text(train, row), picture_png=_png(train, row)) for row in rows]


def _data_facts(task: ImageTextTask, splits: Splits[ImageTextSamples]) -> dict[str, str]:
    words = [len(texts[0].split()) for texts in splits.train.texts]
    facts = {
        "domain": task.setup.domain.name,
        "words per text": f"{np.median(words):.0f} (up to {max(words)})",
        "images kept": splits.train.store.place,
    }
    digest = splits.report.summary.get("sha256")
    return facts if digest is None else facts | {"data sha256": f"{digest[:16]}…"}


def _model_facts(task: ImageTextTask, outcome: PairOutcome) -> dict[str, str]:
    recipe, setup = task.recipe, task.setup
    own = ", ".join(f"{name} {value:g}" for name, value in task.parameters.items())
    return {
        "network": recipe.model.name,
        "weights": str(recipe.model.architecture.weights or "random"),
        "parameters": f"{outcome.num_parameters:,}",
        "loss": f"{setup.loss} ({own})" if own else setup.loss,
        "similarity": setup.contrastive.similarity,
        "method": setup.finetune.method,
        "optimizer": f"{recipe.training.optimizer}, "
        f"learning rate {recipe.training.learning_rate:g}",
        "batch": f"{recipe.training.step_samples} pairs, {recipe.training.micro_batch} at once",
        "image size": str(setup.data.image_size),
        "seed": str(recipe.seed),
    }


def _timings(summary: Json) -> dict[str, str]:
    return {
        "epochs": f"{summary['epochs']}, best {summary['best_epoch']}",
        "training": f"{summary['training_seconds']:.1f} s",
        "pairs per second": f"{summary['samples_per_second']:,.0f}",
        "peak memory": f"{summary['system']['peak_memory_mib']:,.0f} MiB",
        "whole run": f"{summary['seconds']:.1f} s",
    }


def _commands(folder: RunFolder, *, is_prompted: bool) -> dict[str, str]:
    given = "IMAGES/" if is_prompted else "PAIRS.csv"
    return {
        "Predict": f"maquette predict {folder.path} {given} --output answers.jsonl",
        "Test at other sizes": f"maquette evaluate {folder.path} --sizes 48,64,96",
        "Take it to transformers": f"maquette export {folder.path} --output clip/",
        "Repeat the run": f"maquette train {folder.recipe_file}",
    }
