"""The section on the data, and the pictures: the same on every report.

Plots come as `Markup` (safe SVG, escaped where it was drawn); all other text is escaped by the
template.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from markupsafe import Markup

from maquette.evaluation import plots
from maquette.evaluation.report_data import Column, Picture
from maquette.evaluation.svg import number

Section = dict[str, Any]

MAX_COLUMNS_SHOWN = 24
MAX_QUARANTINED = 50
THUMBNAIL = 192
"""Longest side of a picture on the page, in pixels: sharp on dense screens too."""


def dataset(
    *,
    split_sizes: Mapping[str, int],
    class_counts: Mapping[str, Mapping[str, int]] | None,
    classes: Sequence[str] = (),
    columns: Sequence[Column] = (),
    pictures: Sequence[Picture] = (),
    quarantined: Sequence[Mapping[str, str]] = (),
) -> Section:
    """Splits, classes, columns with their histograms, pictures, things set aside.

    Args:
        class_counts: {split: {class: samples}}.
        classes: the order to show them in; empty: as they come.
    """
    total = sum(split_sizes.values()) or 1
    cards = [_column_card(column) for column in columns]
    return {
        "splits": [
            {"name": name, "size": f"{size:,}", "share": f"{100 * size / total:.2f}"}
            for name, size in split_sizes.items()
        ],
        "total": f"{total:,}",
        "classes": _class_counts(class_counts or {}, classes),
        "columns": cards[:MAX_COLUMNS_SHOWN],
        "more_columns": cards[MAX_COLUMNS_SHOWN:],
        "pictures": [(one.caption, picture(one.picture_png)) for one in pictures],
        "quarantined": quarantined[:MAX_QUARANTINED],
        "quarantined_left_out": max(0, len(quarantined) - MAX_QUARANTINED),
    }


def _class_counts(splits: Mapping[str, Mapping[str, int]], classes: Sequence[str]) -> list[Section]:
    """For each class its samples, and the share of the largest class each split has of it."""
    names = dict.fromkeys(name for counts in splits.values() for name in counts)
    order = [name for name in classes if name in names] or list(names)
    totals = {name: sum(counts.get(name, 0) for counts in splits.values()) for name in order}
    largest = max(totals.values(), default=0) or 1
    return [
        {
            "name": name,
            "count": f"{totals[name]:,}",
            "shares": [f"{100 * counts.get(name, 0) / largest:.2f}" for counts in splits.values()],
        }
        for name in order
    ]


def _column_card(column: Column) -> Section:
    card: Section = {
        "name": column.name,
        "kind": column.kind,
        "missing": _missing_text(column),
        "plot": None,
        "values": [],
        "facts": "no values",
    }
    if column.values is not None:
        card |= _category_card(column.values)
    elif len(column.counts):
        low, high = (_value_text(column, edge) for edge in (column.edges[0], column.edges[-1]))
        mean = "" if column.mean is None else f", mean {_value_text(column, column.mean)}"
        card["facts"] = f"{low} to {high}{mean}"
        card["plot"] = Markup(plots.sparkline(column.counts, title=f"Values of {column.name}"))
    return card


def _category_card(values: Mapping[str, int], shown: int = 4) -> Section:
    ordered = sorted(values.items(), key=lambda item: (-item[1], item[0]))
    total, largest = sum(values.values()) or 1, ordered[0][1] if ordered else 1
    left_out = len(ordered) - shown
    return {
        "values": [
            {
                "name": name,
                "share": f"{100 * count / largest:.1f}",
                "percent": f"{100 * count / total:.0f} %",
            }
            for name, count in ordered[:shown]
        ],
        "facts": f"{len(ordered):,} values" + (f", {left_out:,} more" if left_out > 0 else ""),
    }


def _missing_text(column: Column) -> str:
    total = column.count + column.missing
    if not column.missing:
        return ""
    return f"{column.missing:,} missing ({number(100 * column.missing / total, 2)} %)"


def _value_text(column: Column, value: float) -> str:
    if column.kind != "date":
        return number(value)
    try:
        return (date(1970, 1, 1) + timedelta(days=value)).isoformat()
    except OverflowError:  # before year 1 or after 9999
        return f"day {number(value)}"


def picture(png: bytes) -> Section:
    """Return an image as an address that needs no file; tiny ones are shown with their pixels."""
    width, height = int.from_bytes(png[16:20]), int.from_bytes(png[20:24])  # from the PNG header
    longest = max(width, height)
    kind, content = ("png", png) if longest <= THUMBNAIL else ("jpeg", _shrunk(png))
    return {
        "address": f"data:image/{kind};base64,{base64.b64encode(content).decode()}",
        "style": "pixels" if longest <= 64 else None,
    }


def _shrunk(png: bytes) -> bytes:
    """A thumbnail as JPEG: photographs are much smaller so than as PNG."""
    from PIL import Image

    image = Image.open(io.BytesIO(png)).convert("RGB")
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()
