"""Items of a plan: their code, their tests, and the bullets that excuse them."""

from __future__ import annotations

import pytest
from check_cases import FILES, findings, where

TWO_HEADS = "project/model/two_heads.py"
METRICS = "project/testing/metrics.py"
TEST = "project/tests/test_accuracy.py"
EXCUSED = "If it is left out, say so in notes.md under Deviations: `- **Two heads**: why`."


def _metric(body: str) -> dict[str, str | None]:
    return {METRICS: f'"""Metrics."""\n\n{body}'}


CODE = {
    "no file": (
        {TWO_HEADS: None, "project/run.py": "ARGS = '--epochs', '--output'\n"},
        [
            ("code", TWO_HEADS, 0),
            ("requirements", "project/tests/test_two_heads.py", 6),
        ],
        "Model 'Two heads' (plan_res.md:9) has no code: this file is missing. Write TwoHeads in "
        f"it. {EXCUSED}",
    ),
    "another name": (
        {TWO_HEADS: FILES[TWO_HEADS].replace("TwoHeads", "TwoHead")},
        [("code", TWO_HEADS, 0)],
        "Model 'Two heads' (plan_res.md:9) has no code: this file defines no TwoHeads. Did you "
        f"mean 'TwoHead'? Write it. {EXCUSED}",
    ),
    "another file": (
        {TWO_HEADS: "A = 1\n", "project/model/heads.py": FILES[TWO_HEADS]},
        [("code", TWO_HEADS, 0)],
        "is not in this file: TwoHeads is in project/model/heads.py:7. Move it, or write `- code: "
        "model/heads.py:TwoHeads` below its heading.",
    ),
    "imported": (
        {TWO_HEADS: "import os\nfrom torch.nn import Linear as TwoHeads\n"},
        [("code", TWO_HEADS, 2)],
        "is imported from torch.nn, not written here. Define TwoHeads in this file; it may call "
        "the imported one.",
    ),
    "empty class": (
        {TWO_HEADS: 'class TwoHeads(object):\n    """Two."""\n\n    pass\n'},
        [("code", TWO_HEADS, 1)],
        f"is a skeleton: TwoHeads does nothing yet. Write it. {EXCUSED}",
    ),
    "forward raises": (
        {
            TWO_HEADS: "class TwoHeads:\n    def __init__(self):\n        self.a = 1\n\n"
            "    def forward(self, x):\n        raise NotImplementedError\n"
        },
        [("code", TWO_HEADS, 6)],
        "is a skeleton",
    ),
    "forward passes": (
        {
            TWO_HEADS: "class TwoHeads:\n    def __init__(self):\n        self.a = 1\n\n"
            "    def forward(self, x):\n        return None\n"
        },
        [("code", TWO_HEADS, 5)],
        "is a skeleton",
    ),
    "only empty methods": (
        {TWO_HEADS: "class TwoHeads:\n    def fit(self): ...\n\n    def predict(self): ...\n"},
        [("code", TWO_HEADS, 2)],
        "is a skeleton",
    ),
    "function raises": (
        _metric("def accuracy(a, b):\n    c = a - b\n    raise NotImplementedError('accuracy')\n"),
        [("code", METRICS, 5)],
        "Metric 'Accuracy' (plan_res.md:17) is a skeleton",
    ),
    "function passes": (
        _metric("def accuracy(a, b):\n    pass\n"),
        [("code", METRICS, 3)],
        "is a skeleton",
    ),
    "a constant": (_metric("accuracy = None\n"), [("code", METRICS, 3)], "is a skeleton"),
}


@pytest.mark.parametrize("case", CODE.values(), ids=CODE)
def test_missing_and_skeleton_code(case, tmp_path):
    changes, expected, text = case
    found = findings(tmp_path, changes)

    assert where(found) == expected
    assert text in str(found[0])


WRITTEN = {
    "assigned": "from functools import partial\n\naccuracy = partial(max, 1)\n",
    "annotated": "accuracy: object = max(len, id)\n",
    "in try": "try:\n    import a.b\nexcept ImportError:\n    def accuracy(a):\n        return a\n",
    "last branch refuses": "def accuracy(a, b):\n    if a:\n        return b\n"
    "    raise NotImplementedError(a)\n",
    "abstract base": "from abc import abstractmethod\n\n\nclass Base:\n    @abstractmethod\n"
    "    def f(self):\n        raise NotImplementedError\n\n\ndef accuracy(a, b):\n    return a\n",
    "written by a subclass": "class Base:\n    def f(self):\n        raise NotImplementedError\n"
    "\n\nclass Metric(Base):\n    def f(self):\n        return 1\n"
    "\n\ndef accuracy(a):\n    return a\n",
}


@pytest.mark.parametrize("body", WRITTEN.values(), ids=WRITTEN)
def test_code_that_is_there(body, tmp_path):
    assert findings(tmp_path, _metric(body)) == ()


def test_a_class_with_an_optional_empty_method_is_written(tmp_path):
    code = FILES[TWO_HEADS] + "\n    def reset(self):\n        pass\n"

    assert findings(tmp_path, {TWO_HEADS: code}) == ()


def test_functions_beside_the_items_are_finished_too(tmp_path):
    code = FILES["project/data/loader.py"] + "\n\ndef more():\n    raise NotImplementedError()\n"
    (found,) = findings(tmp_path, {"project/data/loader.py": code})

    assert where((found,)) == [("finished", "project/data/loader.py", 14)]
    assert str(found).endswith(
        "more is a skeleton: it raises NotImplementedError. "
        "Write it, or delete it when nothing calls it. [finished]"
    )


def _noted(bullet: str) -> str:
    return f"## Deviations from Plan\n{bullet}\n\n## Known Issues\n- **Accuracy**: slow\n"


def test_a_deviation_excuses_an_item(tmp_path):
    changes = {**_metric("def accuracy(a, b):\n    raise NotImplementedError\n"), TEST: None}

    assert findings(tmp_path / "a", {**changes, "notes.md": _noted("- **accuracy:** why")}) == ()
    assert len(findings(tmp_path / "b", {**changes, "notes.md": _noted("")})) == 2


def test_a_deviation_needs_a_reason(tmp_path):
    (found,) = findings(tmp_path, {"notes.md": _noted("Text.\n\n- **Accuracy** —")})

    assert where((found,)) == [("reasons", "notes.md", 4)]
    assert str(found).endswith(
        "The deviation 'Accuracy' gives no reason. Say why after the name: "
        "`- **Accuracy**: because …`. [reasons]"
    )


IMPORT = "from testing.metrics import accuracy\n\n\n"
NAMED = "Metric 'Accuracy' (plan_res.md:17)"
TESTS = {
    "no file": (
        None,
        0,
        f"{NAMED} has no test: this file is missing. Write it: import accuracy from "
        "testing.metrics and assert what it does.",
    ),
    "nothing of it": (
        "def test_it():\n    assert max(1, 2) == 2\n",
        0,
        f"{NAMED} is not tested here: nothing uses accuracy of testing.metrics. Add `from "
        "testing.metrics import accuracy` and a test.",
    ),
    "no test": (
        f"{IMPORT}def check_it():\n    assert accuracy(1, 2) == 2\n",
        0,
        f"{NAMED} is not tested here: no function is called test_…. Name one so.",
    ),
    "skipped": (
        f"{IMPORT}@pytest.mark.skip('later')\ndef test_it():\n    assert accuracy(1, 2)\n",
        5,
        f"{NAMED} is not tested: its tests never run. Take the mark away.",
    ),
    "not used": (
        f"{IMPORT}KEPT = accuracy\n\n\ndef test_it():\n    assert len('a') == 1\n",
        7,
        f"{NAMED} is not tested here: no test uses accuracy. Call it in one and assert what comes "
        "out.",
    ),
    "asserts nothing": (
        f"{IMPORT}def test_it():\n    accuracy(1, 2)\n    assert True\n",
        4,
        f"{NAMED} has a test that cannot fail: it asserts nothing. Assert what accuracy gives, "
        "such as its shape or a value known by hand.",
    ),
}


@pytest.mark.parametrize("case", TESTS.values(), ids=TESTS)
def test_tests_that_are_none(case, tmp_path):
    text, line, message = case
    text = text and text.replace("pytest.mark", "mark").replace("@mark", "@pytest.mark")
    (found,) = findings(tmp_path, {TEST: text and "import pytest\n" * ("@" in text) + text})

    assert where((found,)) == [("tests", TEST, line + ("@" in (text or "")))]
    assert message in str(found)


GOOD_TESTS = {
    "raises": "import pytest\n" + IMPORT + "def test_it():\n    with pytest.raises(ValueError):\n"
    "        accuracy(1, 2)\n",
    "through the package": "from testing import accuracy\n\n\ndef test_it():\n"
    "    assert accuracy(1, 2) == 2\n",
    "by its full name": "import testing.metrics\n\n\ndef test_it():\n"
    "    assert testing.metrics.accuracy(1, 2) == 2\n",
    "set-up method": IMPORT + "class TestIt:\n    def setup_method(self):\n"
    "        self.a = accuracy(1, 2)\n\n    def test_it(self):\n        assert self.a == 2\n",
    "helper method": IMPORT + "class TestIt:\n    def found(self):\n        return accuracy(1, 2)\n"
    "\n    def test_it(self):\n        assert self.found() == 2\n",
    "named fixture": "import pytest\n" + IMPORT + "@pytest.fixture\ndef found():\n"
    "    assert accuracy(1, 2) == 2\n\n\n@pytest.mark.usefixtures('found')\n"
    "def test_it():\n    pass\n",
    "a table": IMPORT + "CASES = [accuracy]\n\n\ndef test_it():\n    assert CASES[0](1, 2) == 2\n",
    "one of two skipped": "import pytest\n"
    + IMPORT
    + "@pytest.mark.skip\ndef test_a():\n    pass\n"
    "\n\ndef test_b():\n    assert accuracy(1, 2)\n",
    "unittest": "from unittest import TestCase\n\n" + IMPORT + "class TestIt(TestCase):\n"
    "    def test_it(self):\n        self.assertEqual(accuracy(1, 2), 2)\n",
}


@pytest.mark.parametrize("text", GOOD_TESTS.values(), ids=GOOD_TESTS)
def test_tests_that_are_some(text, tmp_path):
    assert findings(tmp_path, {TEST: text}) == ()
