"""report.html of image-text pairs: one file, no outside request, made for people.

`write_pair_report` renders the pieces that pair_report_sections.py prepares through
page/pair_report.html.j2.
"""

from __future__ import annotations

from pathlib import Path

from maquette.evaluation import pair_report_sections as sections
from maquette.evaluation.pair_report_data import PairReportData
from maquette.evaluation.report_dataset import dataset
from maquette.evaluation.report_page import render_page
from maquette.evaluation.report_sections import highlighted_yaml
from maquette.files import write_text


def write_pair_report(path: Path, data: PairReportData) -> None:
    """Write the report to `path`, whole or not at all; the same data gives the same bytes.

    Raises:
        RunError: the file cannot be written.
    """
    write_text(path, render_pair_report(data))


def render_pair_report(data: PairReportData) -> str:
    """Return the report as HTML."""
    return render_page(
        "pair_report.html.j2",
        data=data,
        summary=sections.summary(data),
        training=sections.training(data),
        resolutions=sections.resolutions(data),
        gallery=sections.gallery(data),
        classes=sections.classes(data),
        maps=sections.maps(data),
        dataset=dataset(
            split_sizes=data.split_sizes,
            class_counts=data.class_counts,
            pictures=data.pictures,
            quarantined=data.quarantined,
        ),
        recipe=highlighted_yaml(data.recipe_yaml),
    )
