"""Numbers of the documentation that name their record are what the record says."""

from __future__ import annotations

import pytest

from maquette.research.numbers.lint import check_numbers

DOCUMENTS = ("README.md", "docs", "examples/research", "from_scratch")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_numbers_are_those_of_their_records(document, pytestconfig):
    checked = check_numbers([pytestconfig.rootpath / document], strict=False)
    assert [str(problem) for problem in checked.problems] == []


@pytest.mark.parametrize("workspace", ["mixup", "tabm"])
def test_reports_hold_no_number_without_a_record(workspace, pytestconfig):
    report = pytestconfig.rootpath / "examples/research" / workspace / "ml_res.md"
    checked = check_numbers([report], strict=True)
    assert [str(problem) for problem in checked.problems] == []
    assert checked.numbers > 50


@pytest.mark.parametrize("page", ["results-clip.md", "results-domains.md"])
def test_pages_of_results_name_their_records(page, pytestconfig):
    assert check_numbers([pytestconfig.rootpath / "docs" / page], strict=False).numbers > 50
