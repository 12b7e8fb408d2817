"""The sentences of a report: what the numbers mean, said once and no stronger than they allow."""

from __future__ import annotations

import math

import numpy as np

from maquette.evaluation.baselines import Baseline
from maquette.evaluation.calibration import chance_calibration_error
from maquette.evaluation.checks import Floats, Integers
from maquette.evaluation.metrics import SMALLER_IS_BETTER
from maquette.evaluation.pair_report_data import PairReportData
from maquette.evaluation.report_data import ReportData
from maquette.evaluation.svg import metric_value, number

WAYS = {"image_to_text": "Image → text", "text_to_image": "Text → image"}
RETRIEVAL = {
    "r1": "R@1",
    "r5": "R@5",
    "r10": "R@10",
    "median_rank": "median rank",
    "mrr": "MRR",
}
"""The metrics of one direction of retrieval."""

LABELS = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "f1_macro": "F1, macro",
    "roc_auc": "ROC AUC",
    "log_loss": "Log loss",
    "brier": "Brier score",
    "ece": "Calibration error",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
    "loss": "Loss",
    "mean_recall": "Mean recall",
} | {
    f"{way}_{name}": f"{words} {written}"
    for way, words in WAYS.items()
    for name, written in RETRIEVAL.items()
}
"""How metrics are written for readers; the others are their names with spaces."""

HINTS = {
    "accuracy": "share of right predictions",
    "f1_macro": "precision and recall, every class counting the same",
    "roc_auc": "how well the probabilities rank",
    "log_loss": "how surprised it was by the truth",
    "rmse": "typical error, large ones count more",
    "mae": "average error",
    "r2": "share of the variance explained",
    "mean_recall": "mean of R@1, R@5 and R@10, both ways",
    "image_to_text_r1": "images whose own text comes first",
    "text_to_image_r1": "texts whose own image comes first",
    "image_to_text_median_rank": "half of the images find their text this high",
    "text_to_image_median_rank": "half of the texts find their image this high",
}


def label(metric: str) -> str:
    """Return the name of a metric for readers."""
    family, _, average = metric.rpartition("_")
    if average in ("micro", "macro", "weighted"):
        return f"{family.capitalize()}, {average}"
    return LABELS.get(metric, metric.replace("_", " ").capitalize())


def direction(metric: str) -> str:
    """Say which end of a metric is the good one."""
    return "smaller is better" if metric in SMALLER_IS_BETTER else "larger is better"


def headline_metrics(data: ReportData) -> tuple[str, ...]:
    """The metrics worth a large number, the main one first."""
    wanted = ("rmse", "mae", "r2") if data.classes is None else (
        "accuracy", "f1_macro", "roc_auc", "log_loss",
    )  # fmt: skip
    return tuple(name for name in wanted if f"test/{name}" in data.metrics)


def verdict(data: ReportData) -> str:
    """What came out, and how it stands beside the best baseline."""
    return f"{_outcome(data)} {comparison(data, headline_metrics(data)[0])}".strip()


def _outcome(data: ReportData) -> str:
    total = len(data.targets)
    if data.classes is not None:
        pairs = zip(data.targets, data.predictions, strict=True)
        right = sum(truth == answer for truth, answer in pairs)
        return f"Right on {right:,} of {total:,} test {_samples(total)}."
    mae, r2 = data.metrics["test/mae"], data.metrics["test/r2"]
    explained = f", explaining {100 * r2:.0f} % of the variance" if r2 > 0 else ""
    return f"Off by {number(mae)} on average over {total:,} test {_samples(total)}{explained}."


def comparison(data: ReportData | PairReportData, metric: str) -> str:
    """How the network stands beside the best baseline, by one metric; empty without baselines."""
    sign = -1 if metric in SMALLER_IS_BETTER else 1
    rivals = [one for one in data.baselines if metric in one.metrics]
    if not rivals:
        return ""
    best: Baseline = max(rivals, key=lambda one: sign * one.metrics[metric])
    theirs, ours = best.metrics[metric], data.metrics[f"test/{metric}"]
    facts = f"{best.name} ({_in_sentence(metric)} {metric_value(theirs)}"
    low, high = data.intervals.get(f"test/{metric}", (ours, ours))
    if metric_value(theirs) == metric_value(ours):
        return f"Level with the best baseline, {facts})."
    if low <= theirs <= high:
        return (
            f"Too close to call against the best baseline, {facts}, inside this model's interval)."
        )
    ahead = sign * (ours - theirs) > 0
    return f"{'Ahead of' if ahead else 'Behind'} the best baseline, {facts})."


def _in_sentence(metric: str) -> str:
    written = label(metric)
    return written if written.isupper() else written[0].lower() + written[1:]


def training_note(data: ReportData | PairReportData) -> str:
    """When the best weights were found, and what the curves suggest to try."""
    last = data.history[-1]
    if len(data.history) == 1:
        losses = [
            f"{split} loss {number(last[key])}"
            for split, key in (("training", "train/loss"), ("validation", "valid/loss"))
            if key in last
        ]
        return f"One epoch: {', '.join(losses)}." if losses else "One epoch."
    said = f"{len(data.history)} epochs; the bundle holds the weights of"
    if data.best_epoch is None:
        return f"{said} the last."
    said += f" epoch {data.best_epoch}, the best by {data.monitor}."
    if data.best_epoch == last["epoch"]:
        said += " That was the last one, so more epochs may do better."
    return said


def calibration_note(targets: Integers, probabilities: Floats, ece: float) -> str:
    """Whether the confidence can be taken at its word, and what chance alone would show."""
    confidences = probabilities.max(axis=1)
    confidence = float(confidences.mean())
    accuracy = float((probabilities.argmax(axis=1) == targets).mean())
    noise = math.sqrt(float((confidences * (1 - confidences)).clip(min=0).sum())) / len(targets)
    tone = "well matched"
    if abs(confidence - accuracy) > max(0.02, 2 * noise):
        tone = "over-confident" if confidence > accuracy else "under-confident"
    return (
        f"Confidence averages {confidence:.3f} and accuracy is {accuracy:.3f}: {tone} overall. "
        f"The expected calibration error is {ece:.3f}; perfectly honest confidence would score "
        f"about {chance_calibration_error(probabilities):.3f} on these {len(targets):,} "
        f"{_samples(len(targets))}, by chance."
    )


def error_note(targets: Floats, predictions: Floats) -> str:
    """Bias and spread of a regression's errors."""
    errors = predictions - targets
    half, most = np.quantile(np.abs(errors), [0.5, 0.9])
    side = "high" if errors.mean() > 0 else "low"
    return (
        f"Half of the predictions are within {number(float(half))} of the truth and nine in ten "
        f"within {number(float(most))}; on average they are {number(abs(float(errors.mean())))} "
        f"too {side}."
    )


def _samples(count: int) -> str:
    return "sample" if count == 1 else "samples"
