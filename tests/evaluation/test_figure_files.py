"""Figures as files: whole SVG documents with their style."""

from xml.etree import ElementTree

from maquette.evaluation.figure_files import write_figures
from maquette.evaluation.plots import Series, line_chart


def test_a_figure_is_a_document_of_its_own(tmp_path):
    chart = line_chart(
        [Series("loss", "ours", [(1, 2.0), (2, 1.0)])], title="Loss <&>", x_label="epoch"
    )
    write_figures(tmp_path / "figures", {"training_1": chart})
    root = ElementTree.parse(tmp_path / "figures/training_1.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    style = root.find("{http://www.w3.org/2000/svg}style")
    assert style is not None
    assert "--" in (style.text or "")
