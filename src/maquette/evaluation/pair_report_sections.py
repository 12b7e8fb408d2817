"""The pieces of the report of image-text pairs: from `PairReportData` to what each section shows.

Plots come as `Markup` (safe SVG, escaped where it was drawn); all other text is escaped by the
template.
"""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from maquette.evaluation import plots
from maquette.evaluation.pair_plots import NUM_HUES, label_hues, map_plot, recall_plot
from maquette.evaluation.pair_report_data import PairReportData, Query, WiseFt
from maquette.evaluation.report_dataset import Section, picture
from maquette.evaluation.report_parts import (
    MAX_CLASS_ROWS,
    Curve,
    both_splits,
    class_rows,
    contest,
    curves,
    metric_rows,
    tile,
    value_or_dash,
)
from maquette.evaluation.report_text import (
    RETRIEVAL,
    WAYS,
    comparison,
    direction,
    label,
    training_note,
)
from maquette.evaluation.retrieval import CUTOFFS
from maquette.evaluation.svg import metric_value, number

HEADLINES = (
    "mean_recall",
    "image_to_text_r1",
    "text_to_image_r1",
    "image_to_text_median_rank",
    "text_to_image_median_rank",
)
"""The metrics worth a large number, the main one first."""

CLASS_METRICS = ("accuracy", "balanced_accuracy", "f1_macro", "roc_auc", "log_loss", "ece")
"""Of the zero-shot classifier and the linear probe."""


def summary(data: PairReportData) -> Section:
    """The verdict, the large numbers, recall beside chance, comparisons, all metrics."""
    plain = {name.removeprefix("test/"): value for name, value in data.intervals.items()}
    tested = {
        name.removeprefix("test/"): value
        for name, value in data.metrics.items()
        if name.startswith("test/")
    }
    return {
        "verdict": verdict(data),
        "tiles": [tile(data, name) for name in HEADLINES],
        "recall": Markup(recall_plot(tested, data.chance, plain)),
        "contests": [Markup(contest(data, name)) for name in HEADLINES[:3]]
        if data.baselines
        else [],
        "confidence": f"{100 * data.confidence:g} %",
        "metrics": [
            row | {"chance": value_or_dash(data.chance, row["name"])} for row in metric_rows(data)
        ],
        "rivals": [one.name for one in data.baselines],
    }


def verdict(data: PairReportData) -> str:
    """What came out, what chance would give, and how it stands beside the best baseline."""
    few = min(data.num_images, data.num_texts) < 25
    k = 1 if few else 5
    place = "comes first" if few else "is among the first five"
    images, texts = (data.metrics[f"test/{way}_r{k}"] for way in WAYS)
    chance = [data.chance[f"{way}_r{k}"] for way in WAYS]
    said = (
        f"The right text {place} of {data.num_texts:,} for {_percent(images)} of the test images, "
        f"the right image {'' if few else 'among five '}of {data.num_images:,} "
        f"for {_percent(texts)} of the texts; "
        f"chance would give {_percent(chance[0])} and {_percent(chance[1])}."
    )
    return f"{said} {comparison(data, 'mean_recall')}".strip()


def _percent(share: float) -> str:
    return f"{number(100 * share, 2 if share < 0.1 else 3)}\u00a0%"


def training(data: PairReportData) -> Section | None:
    """Loss and recall, the parts of the loss, the temperature, and averages of the weights."""
    if not data.history:
        return None
    drawn = [curves(data, label(name), both_splits(name)) for name in ("loss", HEADLINES[0])]
    drawn += [
        curves(data, title, [_numbered(key, index) for index, key in enumerate(keys)])
        for title, keys in (
            ("Parts of the loss", _columns(data, prefix="loss_")),
            ("Temperature", _columns(data, suffix="temperature")),
        )
    ]
    if len(data.history) == 1:
        drawn = []
    return {
        "note": training_note(data),
        "plots": [Markup(chart) for chart in drawn if chart],
        "wise_ft": Markup(_wise_ft_plot(data.wise_ft)) if data.wise_ft else None,
    }


def _columns(data: PairReportData, *, prefix: str = "", suffix: str = "") -> list[str]:
    """Columns of the history whose last part begins and ends so, in the order they first occur."""
    names = dict.fromkeys(key for row in data.history for key in row)
    parts = {key: key.rpartition("/")[2] for key in names}
    return [key for key, part in parts.items() if part.startswith(prefix) and part.endswith(suffix)]


def _numbered(key: str, index: int) -> Curve:
    part = key.rpartition("/")[2]
    name = part.removeprefix("loss_").replace("_", " ")
    return Curve(key, "τ" if part == "temperature" else name, f"hue-{min(index, NUM_HUES)}")


def _wise_ft_plot(wise_ft: WiseFt) -> str:
    points = list(zip(wise_ft.alphas, wise_ft.scores, strict=True))
    return plots.line_chart(
        [plots.Series("score", "ours", points)],
        title=f"{label(wise_ft.metric)} of averaged weights",
        x_label="share of the trained weights",
        mark=wise_ft.best_alpha,
        mark_name="kept",
        whole=False,
    )


def resolutions(data: PairReportData) -> Section | None:
    """Curves and a table of the metrics at several image sizes; nothing for a single size."""
    if len(data.sizes) < 2:
        return None
    shown = [name for name in RETRIEVAL if name != "mrr"]
    columns = ["mean_recall", *(f"{way}_{name}" for way in WAYS for name in shown)]
    return {
        "plots": [Markup(_size_plot(data, way)) for way in WAYS],
        "columns": [RETRIEVAL[name] for _ in WAYS for name in shown],
        "rows": [
            {
                "size": f"{one.size} px",
                "is_own": one.size == data.image_size,
                "values": [value_or_dash(one.metrics, column) for column in columns],
            }
            for one in data.sizes
        ],
    }


def _size_plot(data: PairReportData, way: str) -> str:
    series = [
        plots.Series(
            f"R@{k}",
            f"hue-{index}",
            [(float(one.size), one.metrics[f"{way}_r{k}"]) for one in data.sizes],
        )
        for index, k in enumerate(CUTOFFS)
    ]
    return plots.line_chart(
        series,
        title=f"{WAYS[way]} by image size",
        x_label="side in pixels",
        mark=data.image_size,
        mark_name="trained",
    )


def gallery(data: PairReportData) -> list[Section]:
    """For each direction its queries with what they found."""
    return [
        {
            "direction": way,
            "heading": heading,
            "queries": [_query(one, total) for one in data.gallery if one.direction == way],
        }
        for way, heading, total in (
            ("image_to_text", "Images, and the texts they found", data.num_texts),
            ("text_to_image", "Texts, and the images they found", data.num_images),
        )
        if any(one.direction == way for one in data.gallery)
    ]


def _query(query: Query, total: int) -> Section:
    return {
        "caption": query.caption,
        "picture": picture(query.picture_png),
        "rank": f"rank {number(query.rank, 4)} of {total:,}",
        "is_first": query.rank == 1,
        "answers": [
            {
                "caption": one.caption,
                "similarity": metric_value(one.similarity),
                "is_right": one.is_right,
                "picture": picture(one.picture_png) if one.picture_png else None,
            }
            for one in query.best
        ],
    }


def classes(data: PairReportData) -> Section | None:
    """Zero-shot classification and the linear probe side by side, each prompt, each class."""
    rows: list[tuple[str, Mapping[str, float]]] = []
    section: Section = {"prompts": [], "classes": [], "more_classes": []}
    if shot := data.zero_shot:
        rows.append(("Zero-shot, first prompt", shot.single))
        if len(shot.prompts) > 1:
            rows.append((f"Zero-shot, all {len(shot.prompts)} prompts", shot.metrics))
        found = class_rows(shot.table, shot.classes)
        section["classes"], section["more_classes"] = found[:MAX_CLASS_ROWS], found[MAX_CLASS_ROWS:]
        best = sorted(zip(shot.prompt_accuracy, shot.prompts, strict=True), key=lambda one: -one[0])
        section["prompts"] = [(prompt, metric_value(accuracy)) for accuracy, prompt in best]
    if probe := data.linear_probe:
        rows.append((f"Linear probe on {probe.num_train:,} images", probe.metrics))
    if not rows:
        return None
    names = [name for name in CLASS_METRICS if any(name in metrics for _, metrics in rows)]
    return section | {
        "columns": [(label(name), direction(name)) for name in names],
        "rows": [
            (title, [value_or_dash(metrics, name) for name in names]) for title, metrics in rows
        ],
    }


def maps(data: PairReportData) -> Section | None:
    """The maps, and what their colours mean."""
    if not data.embedding_maps:
        return None
    labels = [label for shown in data.embedding_maps for label in shown.labels or ()]
    hues = label_hues(labels)
    return {
        "plots": [Markup(map_plot(shown, hues)) for shown in data.embedding_maps],
        "legend": _legend(hues) if hues else [(0, "images"), (1, "texts")],
    }


def _legend(hues: Mapping[str, int]) -> list[tuple[int, str]]:
    own = [(hue, name) for name, hue in hues.items() if hue < NUM_HUES]
    others = [name for name, hue in hues.items() if hue == NUM_HUES]
    if len(others) == 1:
        return [*own, (NUM_HUES, others[0])]
    return [*own, (NUM_HUES, f"{len(others)} others")] if others else own
