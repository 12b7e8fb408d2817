"""report.html of tables and images: one file, no outside request, made for people.

`write_report` renders the pieces that report_sections.py prepares through page/report.html.j2.
Image-text pairs have a page of their own, pair_report.py.
"""

from __future__ import annotations

from pathlib import Path

from maquette.evaluation import report_sections as sections
from maquette.evaluation.report_data import ReportData
from maquette.evaluation.report_dataset import dataset
from maquette.evaluation.report_page import render_page
from maquette.files import write_text


def write_report(path: Path, data: ReportData) -> None:
    """Write the report to `path`, whole or not at all; the same data gives the same bytes.

    Raises:
        RunError: the file cannot be written.
        ValueError: arrays that do not fit each other.
    """
    write_text(path, render_report(data))


def render_report(data: ReportData) -> str:
    """Return the report as HTML."""
    return render_page(
        "report.html.j2",
        data=data,
        summary=sections.summary(data),
        training=sections.training(data),
        quality=sections.classification(data) if data.classes else sections.regression(data),
        mistakes=sections.mistakes(data),
        dataset=dataset(
            split_sizes=data.split_sizes,
            class_counts=data.class_counts,
            classes=data.classes or (),
            columns=data.columns,
            pictures=data.pictures,
            quarantined=data.quarantined,
        ),
        recipe=sections.highlighted_yaml(data.recipe_yaml),
    )
