"""What the report of image-text pairs shows, as plain data.

`write_pair_report(path, data)` turns one `PairReportData` into one HTML file. Everything with a
default may be left out, and its place in the report is left out too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from maquette.evaluation.baselines import Baseline
from maquette.evaluation.bootstrap import Interval
from maquette.evaluation.embedding_map import EmbeddingMap
from maquette.evaluation.linear_probe import LinearProbe
from maquette.evaluation.report_data import Picture
from maquette.evaluation.zero_shot import ZeroShot


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A candidate that a query ranked high: a caption, or an image with its caption."""

    similarity: float
    is_right: bool
    """Whether it belongs to the query."""
    caption: str
    picture_png: bytes | None = None
    """text_to_image: the image as PNG."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """A test image or text, and what it found."""

    direction: Literal["image_to_text", "text_to_image"]
    caption: str
    """The text that asks, or a caption of the image that asks."""
    picture_png: bytes
    """The image that asks, or one that belongs to the text that asks, as PNG."""
    rank: float
    """Of the best right candidate; 1 is the top, halves are ties."""
    best: Sequence[Neighbour]
    """The most similar first."""


@dataclass(frozen=True, kw_only=True)
class SizeScore:
    """The test metrics with images of one size."""

    size: int
    """Side in pixels."""
    metrics: Mapping[str, float]
    """By plain name: mean_recall, image_to_text_r1, …"""


@dataclass(frozen=True, kw_only=True)
class WiseFt:
    """Averages of the weights before and after training, scored on the validation split."""

    alphas: Sequence[float]
    """Share of the trained weights, from 0 (before) to 1 (after)."""
    scores: Sequence[float]
    """The monitored metric of each average."""
    best_alpha: float
    """The share that was kept."""
    metric: str = "mean_recall"
    """What the scores are."""


@dataclass(frozen=True, kw_only=True)
class PairReportData:
    """Everything on the page, in about its order."""

    title: str
    """The recipe's name."""
    subtitle: str
    """One line: what was trained on what."""
    created: str
    """When the run ended, as it should be printed."""

    metrics: Mapping[str, float]
    """test/… of every metric of `retrieval_metrics`, and optionally valid/…."""
    intervals: Mapping[str, Interval]
    """test/… intervals; may be empty."""
    confidence: float = 0.95
    """Coverage of the intervals."""
    chance: Mapping[str, float]
    """`chance_metrics` of the test split, by plain name."""
    num_images: int
    """Distinct test images: what a text chooses from."""
    num_texts: int
    """Distinct test texts: what an image chooses from."""
    baselines: Sequence[Baseline] = ()
    """Others measured on the same pairs: the model before training, …"""

    history: Sequence[Mapping[str, float]] = ()
    """Rows of metrics.csv, one per epoch: epoch, train/loss, valid/loss, valid/…. Columns whose
    name ends in temperature, and those named …/loss_PART, get a plot."""
    best_epoch: int | None = None
    """The epoch whose weights are in the bundle, as counted in `history`."""
    monitor: str = "valid/mean_recall"
    """What chose the best epoch."""
    wise_ft: WiseFt | None = None

    sizes: Sequence[SizeScore] = ()
    """The same model on images of several sizes, the smallest first."""
    image_size: int | None = None
    """The size it was trained for, to point out among them."""

    gallery: Sequence[Query] = ()
    """Both directions, in the order to show."""
    zero_shot: ZeroShot | None = None
    linear_probe: LinearProbe | None = None
    embedding_maps: Sequence[EmbeddingMap] = ()

    source: str
    """Where the data came from."""
    split_sizes: Mapping[str, int]
    """Pairs in train, valid and test."""
    class_counts: Mapping[str, Mapping[str, int]] | None = None
    """{split: {class: images}}, where images have classes."""
    pictures: Sequence[Picture] = ()
    """Some training pairs."""
    data_facts: Mapping[str, str] | None = None
    """Anything else worth a line: domain, distinct images, caption lengths, …"""
    warnings: Sequence[str] = ()
    quarantined: Sequence[Mapping[str, str]] = ()
    """Pairs set aside: `place` and `reason`."""

    model_facts: Mapping[str, str]
    """Parameters, loss, method, attention, …"""
    timings: Mapping[str, str]
    """Training time, pairs per second, peak memory, …"""
    environment: Mapping[str, str]
    recipe_yaml: str
    commands: Mapping[str, str]
    """What to do next: {"Predict a file": "maquette predict …"}"""
