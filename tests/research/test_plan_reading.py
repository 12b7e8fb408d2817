"""A whole plan: what is made of it, and what is said of every mistake, all at once, with lines."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from maquette.data.catalogue import CATALOGUE
from maquette.errors import DataError, MaquetteError, UsageError
from maquette.research.planning.plan import SECTIONS, Plan
from maquette.research.planning.plan_reading import parse_plan, read_plan

GOOD = """\
# Ensembles
Do they help?

## Dataset Plan
### Adult
- source: catalogue:adult
- target: income
Census.
## Model Plan
### Batch ensemble
- code: model/tabm.py:BatchEnsemble
Many networks in one.
$$ h_i = W x $$
## Training Plan
- Optimizer: AdamW
- epochs: 50
- seeds: 5
### Mean loss
$$ L = \\frac{1}{k} \\sum_{i=1}^{k} \\ell(y, \\hat y_i) $$
## Testing Plan
- compare: tabm against mlp, trees
- confidence: 0.95
### Accuracy
- goal: higher
- range: 0 to 1
The share of hits.
"""


def changed(old: str, new: str, *, text: str = GOOD) -> str:
    assert text.count(old) == 1, old
    return text.replace(old, new)


def problems(text: str) -> list[str]:
    with pytest.raises(DataError) as told:
        parse_plan(text, "plan.md")
    return str(told.value).split("\n")


def warnings(text: str) -> list[str]:
    return list(parse_plan(text, "plan.md").warnings)


def test_a_whole_plan(tmp_path):
    path = tmp_path / "plan_res.md"
    path.write_text(GOOD, encoding="utf-8")
    plan = read_plan(path)
    assert (plan.path, plan.title, plan.question) == (str(path), "Ensembles", "Do they help?")
    assert plan.warnings == ()
    assert plan.training == {"optimizer": "AdamW", "epochs": "50", "seeds": "5"}
    assert plan.testing == {"compare": "tabm against mlp, trees", "confidence": "0.95"}
    assert [(i.kind, i.name, i.line, i.file, i.symbol, i.text) for i in plan.items] == [
        ("dataset", "Adult", 5, "data/dataset.py", "load_adult", "Census."),
        ("model", "Batch ensemble", 10, "model/tabm.py", "BatchEnsemble", "Many networks in one."),
        ("loss", "Mean loss", 18, "training/loss.py", "mean_loss", ""),
        ("metric", "Accuracy", 23, "testing/metrics.py", "accuracy", "The share of hits."),
    ]
    adult, ensemble, loss, _ = plan.items
    assert adult.fields == {
        "source": "catalogue:adult",
        "target": "income",
        "sha256": CATALOGUE["adult"].sha256,
    }
    assert [(f.text, f.line) for f in ensemble.formulas] == [("h_i = W x", 13)]
    assert loss.formulas[0].symbols == ("L", "k", "i", "\\ell", "y", "\\hat{y}_i")
    assert loss.test_file == "tests/test_mean_loss.py"


def test_line_ends_and_a_byte_order_mark_do_not_matter(tmp_path):
    path = tmp_path / "plan_res.md"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert read_plan(path).items == parse_plan(GOOD, str(path)).items


def test_sections_come_in_any_order_and_any_case():
    head, *sections = GOOD.split("\n## ")
    text = "\n\n## ".join([head, *reversed(sections)])
    text = text.replace("## Model Plan", "## model  plan:")
    plan = parse_plan(text, "plan.md")
    assert [item.kind for item in plan.items] == ["metric", "loss", "model", "dataset"]
    assert len(plan.of_kind("model")) == 1


@pytest.mark.parametrize("section", SECTIONS)
def test_a_missing_section(section):
    text = changed(f"## {section}", "## Something else")
    assert problems(text)[0] == (
        f"plan.md:1: the section '## {section}' is missing; add it, with '### Name' below it."
    )


def test_a_missing_section_that_is_nearly_there():
    assert problems(changed("## Dataset Plan", "## Datasets Plan")) == [
        "plan.md:4: the section '## Dataset Plan' is missing; is '## Datasets Plan' meant? Give it "
        "that name."
    ]


def test_every_mistake_is_told_in_the_order_of_the_file():
    text = changed("- source: catalogue:adult\n", "")
    text = changed("model/tabm.py:BatchEnsemble", "tabm.py", text=text)
    text = changed("epochs: 50", "epochs: fifty", text=text)
    text = changed("seeds: 5", "seeds: 0", text=text)
    text = changed("compare: tabm against mlp, trees", "compare: tabm", text=text)
    text = changed("confidence: 0.95", "confidence: 95 %", text=text)
    text = changed("- goal: higher\n", "", text=text)
    text = changed("0 to 1", "0-1", text=text)
    told = problems(text)
    assert [line.split(": ", 1)[0] for line in told] == [
        *("plan.md:5", "plan.md:10", "plan.md:15", "plan.md:16"),
        *("plan.md:20", "plan.md:21", "plan.md:22", "plan.md:23"),
    ]
    words = [
        "no source",
        "code is",
        "epochs is",
        "seeds is",
        "compare is",
        "confidence is",
        "no goal",
    ]
    for line, word in zip(told, [*words, "range is"], strict=True):
        assert word in line
        assert line.endswith(".")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "# Ensembles\n",
            "",
            "plan.md:1: the plan has no title; begin it with '# Title' and the question below.",
        ),
        (
            "# Ensembles\n",
            "#\n",
            "plan.md:1: the plan has no title; begin it with '# Title' and the question below.",
        ),
        (
            "The share of hits.\n",
            "# More\n",
            "plan.md:26: a second title 'More'; line 1 has the first. Make it a section (##) or an "
            "item (###).",
        ),
        (
            "The share of hits.\n",
            "## Model Plan\n### Other\nIt is.\n",
            "plan.md:26: '## Model Plan' comes a second time; line 9 has the first. Join them.",
        ),
        (
            "### Adult\n",
            "",
            "plan.md:4: '## Dataset Plan' has no item; add '### Name' below it.",
        ),
        ("### Adult\n", "###\n", "plan.md:5: the item has no name; write one behind ###."),
        (
            "Do they help?\n",
            "### Early\n",
            "plan.md:2: '### Early' stands in no section; put it below one of '## Dataset Plan', "
            "'## Model Plan', '## Training Plan', '## Testing Plan'.",
        ),
        (
            "### Accuracy",
            "### adult",
            "plan.md:23: the item 'adult' is called adult in code, as 'Adult' on line 5; rename "
            "one (letters from a to z and digits tell names apart).",
        ),
        (
            "### Accuracy\n",
            "### Accuracy\n- code: training/loss.py:mean_loss\n",
            "plan.md:23: the item 'Accuracy' has its code in training/loss.py:mean_loss, as 'Mean "
            "loss' on line 18; give one another with '- code: FILE:NAME'.",
        ),
        (
            "- range: 0 to 1\n",
            "- goal: lower\n",
            "plan.md:25: '- goal:' is given a second time; line 24 has the first. Keep one.",
        ),
        (
            "- target: income",
            "- target:",
            "plan.md:7: '- target:' has no value; write one behind it or remove the line.",
        ),
        (
            "$$ L = \\frac{1}{k} \\sum_{i=1}^{k} \\ell(y, \\hat y_i) $$",
            "$$ $$",
            "plan.md:14: '## Training Plan' has no formula; write the loss between $$ marks below "
            "its '### Name', such as $$ L = -\\log p_y $$.",
        ),
        (
            "- seeds: 5\n",
            "- seeds: 5\n- seeds: 6\n",
            "plan.md:18: '- seeds:' is given a second time; line 17 has the first. Keep one.",
        ),
        (
            "catalogue:adult",
            "catalogue:adlut",
            "plan.md:6: Unknown data set 'adlut'. Did you mean 'adult'? Available: "
            + ", ".join(sorted(CATALOGUE))
            + ".",
        ),
        (
            "- source: catalogue:adult\n",
            "- sha256: 12\n",
            "plan.md:6: the data set has no source. Add a line '- source: …' with catalogue:NAME, "
            "an https:// address or a local path.",
        ),
    ],
)
def test_a_mistake(old, new, told):
    assert told in problems(changed(old, new))


def test_a_mistake_is_told_alone():
    assert problems(changed("- goal: higher", "- goal: up")) == [
        "plan.md:24: goal is 'up'; expected higher or lower."
    ]


def test_of_very_many_mistakes_the_first_are_told():
    told = problems(GOOD + "- goal: lower\n- goal:\n" * 60)
    assert len(told) == 51
    assert told[0].startswith("plan.md:27: '- goal:' is given a second time")
    assert told[50] == "plan.md:77: 70 more from here on; mend the first ones first."


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "Do they help?\n",
            "",
            "plan.md:1: the plan asks no question; write below the title what is to be found out.",
        ),
        (
            "$$ h_i = W x $$",
            "$$ h_i = \\foo{ $$",
            "plan.md:13: the formula is kept as text: unknown command \\foo.",
        ),
        (
            "$$ h_i = W x $$",
            "$$ h_i = W x",
            "plan.md:13: the formula is kept as text: its second $$ is missing; write $$ below it.",
        ),
        (
            "Many networks in one.\n$$ h_i = W x $$\n",
            "",
            "plan.md:10: Batch ensemble has no definition; say below it what it computes.",
        ),
        (
            "The share of hits.\n",
            "## Appendix\n### Kept\n",
            "plan.md:26: no command reads the section '## Appendix'; it stays as it is. Those that "
            "are read: '## Dataset Plan', '## Model Plan', '## Training Plan', '## Testing Plan'.",
        ),
        (
            "## Model Plan\n",
            "## Model Plan\n- width: 3\n",
            "plan.md:10: '- width:' belongs to no model; put it below a '### Name', where it is "
            "read.",
        ),
        (
            "- epochs: 50\n",
            "- epochs: 50\n$$ x $$\n",
            "plan.md:17: the formula belongs to no loss; put it below a '### Name', where it is "
            "read.",
        ),
        (
            "- range: 0 to 1",
            "- rnage: 0 to 1",
            "plan.md:25: no command reads '- rnage:' here. Did you mean '- range:'?",
        ),
        (
            "- confidence: 0.95",
            "- confidance: 0.95",
            "plan.md:22: no command reads '- confidance:' here. Did you mean '- confidence:'?",
        ),
        (
            "catalogue:adult",
            "adult.csv",
            "plan.md:6: there is no adult.csv beside the plan; a run will need it.",
        ),
        (
            "The share of hits.\n",
            "The share $$x of hits.\n",
            "plan.md:26: a $$ has no second $$ behind it, so no formula is read here.",
        ),
    ],
)
def test_what_is_odd_is_warned_about(old, new, told):
    assert warnings(changed(old, new)) == [told]


def test_a_formula_that_cannot_be_parsed_stays_a_formula():
    plan = parse_plan(changed("\\hat y_i", "\\hatt y_i"), "plan.md")
    (formula,) = plan.of_kind("loss")[0].formulas
    assert formula.text == "L = \\frac{1}{k} \\sum_{i=1}^{k} \\ell(y, \\hatt y_i)"
    assert formula.symbols == ()
    assert plan.warnings == (
        "plan.md:19: the formula is kept as text: unknown command \\hatt. Did you mean \\hat?",
    )


def test_files_that_are_no_plan(tmp_path):
    missing = tmp_path / "plan_res.md"
    with pytest.raises(UsageError) as told:
        read_plan(missing)
    assert str(told.value) == (
        f"There is no plan {missing}. `maquette research plan template > plan_res.md` writes one "
        "to fill in."
    )
    with pytest.raises(UsageError) as told:
        read_plan(tmp_path)
    assert str(told.value) == f"Could not read the plan {tmp_path}: Is a directory."
    with pytest.raises(UsageError, match=r"Could not read the plan a\x00b: .*null"):
        read_plan("a\0b")
    (latin := tmp_path / "latin.md").write_bytes("# A\nnaïve\n".encode("latin-1"))
    with pytest.raises(DataError) as told:
        read_plan(latin)
    assert str(told.value) == (
        f"{latin}:2: the byte 0xef is not UTF-8; save the plan as UTF-8 text."
    )
    (large := tmp_path / "large.md").write_bytes(b"x" * 200_001)
    with pytest.raises(DataError) as told:
        read_plan(large)
    assert str(told.value) == (
        f"{large} has more than 200000 bytes; a plan is a text that people read."
    )


LINES = st.sampled_from(
    [
        *GOOD.split("\n"),
        *(
            "#",
            "##",
            "###",
            "---",
            "===",
            "$$",
            "$$ x",
            "```",
            "<!--",
            "-->",
            "- a:",
            "  - b: c",
            "> $$",
        ),
        *(
            "- code: ../x.py:y",
            "- sha256: z",
            "- source: http://",
            "### Adult\x00",
            "\t$$",
            "[a]: b",
        ),
    ]
)


@given(st.one_of(st.text(max_size=200), st.lists(LINES, max_size=40).map("\n".join)))
@example("")
@example("\ufeff")
@example("\u2028# a\x0b\x85\r$$")
@example(GOOD.replace("\n", "\r"))
@example("> " * 500 + "$$")
@example("- " * 500 + "a: b")
def test_any_text_is_a_plan_or_an_error_with_lines(text):
    try:
        plan = parse_plan(text, "plan.md")
    except MaquetteError as error:
        lines = text.replace("\r\n", "\n").replace("\r", "\n").count("\n") + 1
        for told in str(error).split("\n"):
            path, line, words = told.split(":", 2)
            assert path == "plan.md"
            assert 1 <= int(line) <= lines
            assert words.strip()
    else:
        assert isinstance(plan, Plan)
        assert {item.kind for item in plan.items} == set(SECTIONS.values())


@given(st.integers(0, len(GOOD)), st.integers(0, 30), st.text(max_size=10))
def test_a_good_plan_with_a_slip_is_a_plan_or_an_error(at, length, put):
    text = GOOD[:at] + put + GOOD[at + length :]
    try:
        plan = parse_plan(text, "plan.md")
    except MaquetteError:
        return
    places = [(item.file, item.symbol) for item in plan.items]
    assert len(set(places)) == len(places)
    assert all(item.symbol.isidentifier() for item in plan.items)
    assert not any(Path(file).is_absolute() or ".." in file for file, _ in places)
