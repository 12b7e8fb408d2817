"""Evaluation: a trained network and a split in; tables, numbers and a picture of its mistakes out.

Start reading at `evaluate_run`. Images are segmented exactly as `infer` does it, one by one and at
their own size, and scored against their masks as these are. Where images are resized for the
network (`data.resize`) the scores therefore differ from those of the validation during training,
which compares resized masks.

Letters: N classes, H, W image.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from unet_seg.data.build import build_datasets
from unet_seg.data.sample import IGNORE, Sample, Samples
from unet_seg.errors import SegError
from unet_seg.image_files import overlay, palette
from unet_seg.infer import make_folder, predict
from unet_seg.metrics import SegmentationMeter, dice, iou, mean_iou, pixel_accuracy
from unet_seg.preview import to_picture
from unet_seg.runs import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from unet_seg.checkpoints import LoadedModel

RIGHT, FALSE_POSITIVE, MISSED, CONFUSED = range(4)
ERRORS = {
    "background taken for a class": (255, 170, 40),
    "class taken for background": (60, 160, 255),
    "class taken for another": (255, 60, 200),
}
"""What `error_kinds` tells apart, and the colours of it; pixels that are right are not coloured."""


def evaluate_run(
    loaded: LoadedModel,
    split: str,
    *,
    window: int | None = None,
    overlap: float = 0.5,
    tta: bool = False,
    surface: bool = False,
    out: str | Path,
) -> dict[str, Any]:
    """Score a network on a split of the data it was configured with; prints a table per class.

    Writes into `out`:

    - evaluation_SPLIT.json: what is returned, null where a number has no value;
    - per_class_SPLIT.csv: a row a class; per_image_SPLIT.csv: a row an image, its classes' IoU;
    - examples_SPLIT.png: the images with the lowest, the median and the highest mean IoU.

    Args:
        loaded: from `checkpoints.load_model`.
        split: train, valid or test.
        window, overlap, tta: as for `infer.predict`.
        surface: also HD95 and normalised surface distance; slow on large images.
        out: folder, made if absent.
    Returns:
        `SegmentationMeter.compute()` with "confusion" (rows are the truth), "classes", "split",
        "checkpoint", "step" and "settings".
    Raises:
        SegError: no such split, the data is not as configured, or a setting out of range.
    """
    datasets = build_datasets(loaded.config)
    if split not in datasets:
        raise SegError(f"split {split!r} is unknown; there are {', '.join(datasets)}.")
    out = Path(out)
    make_folder(out)
    options: dict[str, Any] = {"window": window, "overlap": overlap, "tta": tta}
    dataset = datasets[split]
    meter = SegmentationMeter(loaded.classes, surface=surface)
    rows = score_images(loaded, dataset, meter, **options)
    result = {
        "split": split,
        "classes": list(loaded.classes),
        **meter.compute(),
        "confusion": meter.state_dict()["confusion"].tolist(),
        "checkpoint": str(loaded.path),
        "step": loaded.step,
        "settings": options,
    }
    print(table(result))  # noqa: T201
    _write(out, split, result, rows)
    shown = [_example(loaded, dataset[i], rows[i], options) for i in representative(rows)]
    draw_examples(shown, loaded.classes, out / f"examples_{split}.png")
    return result


def score_images(
    loaded: LoadedModel, dataset: Samples, meter: SegmentationMeter, **options: Any
) -> list[dict[str, Any]]:
    """Segment every image, add it to the meter, and return a row for each.

    A row has "name", "height", "width", "pixels" that count, "mean_iou", "mean_dice" (over the
    classes in truth or prediction), "pixel_accuracy" and "iou/CLASS"; NaN where there is no value.
    `options` are those of `infer.predict`.
    """
    from tqdm import tqdm

    rows: list[dict[str, Any]] = []
    for index in tqdm(range(len(dataset)), unit="image", disable=None):
        image, mask, name = dataset[index]
        pred = torch.from_numpy(predict(loaded, image, **options))
        try:
            confusion = meter.update(pred[None], mask[None])[0]
        except SegError as error:
            raise SegError(f"{name}: {error}") from None
        ious = iou(confusion)
        rows.append(
            {
                "name": name,
                "height": mask.shape[0],
                "width": mask.shape[1],
                "pixels": int(confusion.sum()),
                "mean_iou": mean_iou(confusion),
                "mean_dice": float(dice(confusion).nanmean()),
                "pixel_accuracy": pixel_accuracy(confusion),
                **{f"iou/{c}": float(v) for c, v in zip(loaded.classes, ious, strict=True)},
            }
        )
    return rows


def representative(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Where the rows with the lowest, median and highest mean IoU are; fewer if there are fewer."""
    scored = [i for i, row in enumerate(rows) if not math.isnan(row["mean_iou"])]
    order = sorted(scored, key=lambda i: rows[i]["mean_iou"])
    if not order:
        return []
    return list(dict.fromkeys([order[0], order[len(order) // 2], order[-1]]))


def table(result: Mapping[str, Any]) -> str:
    """The scores of `evaluate_run` as text: a line a class, then the means, named."""
    rows: Mapping[str, Mapping[str, float]] = result["per_class"]
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    width = max(len(name) for name in ("class", *rows)) + 2
    lines = ["class".ljust(width) + "".join(f"{name:>16}" for name in columns)]
    for name, row in rows.items():
        cells = (_cell(row.get(column, math.nan)) for column in columns)
        lines.append(name.ljust(width) + "".join(f"{cell:>16}" for cell in cells))
    lines.append("")
    means = {name: value for name, value in result.items() if isinstance(value, float)}
    lines += [f"{name:<24}{_cell(value)}" for name, value in means.items()]
    lines.append(f"{'images':<24}{result['images']} of {result['split']}")
    return "\n".join(lines)


def _cell(value: float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return "-" if math.isnan(value) else f"{value:.4f}"


def _write(out: Path, split: str, result: Mapping[str, Any], rows: list[dict[str, Any]]) -> None:
    per_class = [{"class": name, **row} for name, row in result["per_class"].items()]
    write_atomic(out / f"evaluation_{split}.json", json.dumps(without_nan(result), indent=2) + "\n")
    write_atomic(out / f"per_class_{split}.csv", _csv(per_class))
    write_atomic(out / f"per_image_{split}.csv", _csv(rows))


def without_nan(value: Any) -> Any:
    """The same nested values with None for NaN, which JSON has not."""
    if isinstance(value, Mapping):
        return {name: without_nan(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: "" if value != value else value for name, value in row.items()})
    return text.getvalue()


class Example(NamedTuple):
    """One image of examples.png."""

    title: str
    picture: NDArray[np.uint8]
    """(H,W,3)"""
    truth: NDArray[np.uint8]
    """(H,W) class ids or IGNORE"""
    pred: NDArray[np.uint8]
    """(H,W) class ids"""


def _example(
    loaded: LoadedModel, sample: Sample, row: Mapping[str, Any], options: Mapping[str, Any]
) -> Example:
    """Segment a sample once more; every prediction kept until now would not fit into memory."""
    title = f"{sample.name}\nmean IoU {row['mean_iou']:.3f}"
    pred = predict(loaded, sample.image, **options)
    return Example(title, to_picture(sample), sample.mask.numpy(), pred)


def error_kinds(truth: NDArray[np.uint8], pred: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What is wrong at each pixel, (H,W) uint8: 0 nothing, or 1 + the position in `ERRORS`."""
    kinds = np.select(
        [(truth == pred) | (truth == IGNORE), truth == 0, pred == 0],
        [RIGHT, FALSE_POSITIVE, MISSED],
        default=CONFUSED,
    )
    return kinds.astype(np.uint8)


def draw_examples(examples: Sequence[Example], classes: Sequence[str], path: Path) -> None:
    """Draw a row an example: image, truth, prediction and error. No examples draw no file."""
    if not examples:
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from unet_seg.plots import save_figure

    tallest = max(min(truth.shape[0] / truth.shape[1], 2) for _, _, truth, _ in examples)
    size = (11, (11 / 4 * tallest + 0.5) * len(examples) + 1.6)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(examples), 4, squeeze=False)
    for row, example in zip(axes, examples, strict=True):
        for axis, (title, shown) in zip(row, _panels(example, len(classes)).items(), strict=True):
            axis.imshow(shown, interpolation="nearest")
            axis.set_title(title, fontsize="small")
            axis.set_axis_off()
    colours = dict(zip(classes[1:], palette(len(classes))[1:].tolist(), strict=True))
    _add_legend(figure, "truth and prediction", colours, "outside lower left")
    _add_legend(figure, "error", ERRORS, "outside lower right")
    save_figure(figure, path)


def _panels(example: Example, num_classes: int) -> dict[str, NDArray[np.uint8]]:
    """The four pictures of a row and what stands above them."""
    title, picture, truth, pred = example
    grey, colours = picture.mean(axis=2).astype(np.uint8), palette(num_classes)
    error_colours = np.array([(0, 0, 0), *ERRORS.values()], dtype=np.uint8)
    return {
        title: picture,
        "truth": overlay(grey, truth, colours, 0.6),
        "prediction": overlay(grey, pred, colours, 0.6),
        "error": overlay(grey // 2, error_kinds(truth, pred), error_colours, 0.8),
    }


def _add_legend(
    figure: Figure,
    title: str,
    colours: Mapping[str, Sequence[int]],
    place: Literal["outside lower left", "outside lower right"],
) -> None:
    from matplotlib.patches import Patch

    patches = [Patch(color=f"#{bytes(rgb).hex()}", label=name) for name, rgb in colours.items()]
    ncols = 1 + (len(patches) - 1) // 6
    figure.legend(handles=patches, title=title, loc=place, ncols=ncols, fontsize="small")
