"""Figures of a report as SVG files of their own, for a tracking server, slides or a paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from maquette.evaluation import pair_report_sections as sections
from maquette.evaluation.pair_report_data import PairReportData
from maquette.evaluation.report_page import page_asset
from maquette.files import write_text


def pair_figures(data: PairReportData) -> dict[str, str]:
    """Return the figures of an image-text report by name, as they stand on its page."""
    training, sizes, maps = sections.training(data), sections.resolutions(data), sections.maps(data)
    figures = {"recall": str(sections.summary(data)["recall"])}
    figures |= _numbered("training", training["plots"] if training else ())
    figures |= _numbered("image_size", sizes["plots"] if sizes else ())
    figures |= _numbered("embedding_map", maps["plots"] if maps else ())
    if training and training["wise_ft"]:
        figures["wise_ft"] = str(training["wise_ft"])
    return figures


def write_figures(folder: Path, figures: Mapping[str, str]) -> None:
    """Write each figure to `folder`/NAME.svg, with the style it has on the page.

    Raises:
        RunError: a file cannot be written.
    """
    folder.mkdir(exist_ok=True)
    style = f"<style>{page_asset('report.css')}</style>"
    for name, figure in figures.items():
        head, _, rest = figure.partition(">")
        if "xmlns" not in head:
            head = head.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
        write_text(folder / f"{name}.svg", f"{head}>{style}{rest}")


def _numbered(name: str, figures: Sequence[object]) -> dict[str, str]:
    return {f"{name}_{index}": str(figure) for index, figure in enumerate(figures, start=1)}
