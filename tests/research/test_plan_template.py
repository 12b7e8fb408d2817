"""The plan that a new user fills in."""

from __future__ import annotations

import re
from pathlib import Path

from maquette.research.planning.plan import SECTIONS
from maquette.research.planning.plan_reading import parse_plan
from maquette.research.planning.plan_values import comparisons
from maquette.research.planning.template import template

GRAMMAR = Path(__file__).resolve().parents[2] / "docs" / "research-plan.md"


def plan_of(text: str):
    return parse_plan(text, "plan_res.md")


def test_the_template_is_a_plan_without_a_warning():
    plan = plan_of(template())
    assert plan.warnings == ()
    assert {item.kind for item in plan.items} == set(SECTIONS.values())
    assert not any("<!--" in item.text for item in plan.items)
    assert "<!--" not in plan.question
    assert plan.question.endswith("?")


def test_the_template_compares_models_that_it_has():
    plan = plan_of(template())
    slugs = {item.slug for item in plan.of_kind("model")}
    for name, others in comparisons(plan.testing["compare"]):
        assert {name, *others} <= slugs


def test_the_template_has_a_remark_in_every_section():
    for section in re.split(r"^## ", template(), flags=re.M)[1:]:
        assert "<!--" in section, section.splitlines()[0]


def test_the_plan_of_the_documentation_is_one():
    (plan,) = re.findall(r"^```\n(# .*?)^```$", GRAMMAR.read_text(encoding="utf-8"), re.M | re.S)
    assert plan_of(plan).warnings == ()
