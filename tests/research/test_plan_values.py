"""What the fields of a plan mean, and what is said of one that cannot be meant."""

from __future__ import annotations

import math
import re

import pytest

from maquette.data.catalogue import CATALOGUE
from maquette.research.planning.plan_values import (
    code_place,
    comparisons,
    confidence,
    default_place,
    metric_goal,
    metric_range,
    source_facts,
    whole_number,
)


@pytest.mark.parametrize(
    ("kind", "name", "place"),
    [
        ("dataset", "Wine quality", ("data/dataset.py", "load_wine_quality")),
        ("model", "Batch ensemble", ("model/batch_ensemble.py", "BatchEnsemble")),
        ("model", "TabM", ("model/tabm.py", "TabM")),
        ("model", "k-NN", ("model/k_nn.py", "KNN")),
        ("model", "2-layer MLP", ("model/item_2_layer_mlp.py", "Item2LayerMLP")),
        ("model", "None", ("model/none.py", "None_")),
        ("model", "Lambda", ("model/lambda_.py", "Lambda")),
        ("model", "损失", ("model/item_.py", "Item")),
        ("loss", "Mean loss", ("training/loss.py", "mean_loss")),
        ("loss", "Lambda", ("training/loss.py", "lambda_")),
        ("metric", "F1", ("testing/metrics.py", "f1")),
    ],
)
def test_where_code_lies(kind, name, place):
    assert default_place(kind, name) == place


def test_a_place_of_ones_own():
    assert code_place("model/tabm.py:TabM") == ("model/tabm.py", "TabM")
    assert code_place("training/deep/er.py:loss_1") == ("training/deep/er.py", "loss_1")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("model/tabm.py", "expected a file of the project, a colon and a class or function"),
        ("TabM", "expected a file of the project, a colon and a class or function"),
        ("model/tabm.txt:TabM", "expected a file of the project, a colon and a class or function"),
        ("tabm.py:TabM", "must lie in model/, data/, training/, testing/, utils/ of the project"),
        ("/model/tabm.py:TabM", "must lie in model/, data/, training/, testing/, utils/"),
        ("../model/tabm.py:TabM", "must lie in model/, data/, training/, testing/, utils/"),
        ("tests/tabm.py:TabM", "must lie in model/, data/, training/, testing/, utils/"),
        ("model/../x.py:TabM", "'..' is not a name in Python. Use letters, digits and _"),
        ("model/batch-ensemble.py:X", "'batch-ensemble' is not a name in Python"),
        ("model/class.py:X", "'class' is not a name in Python"),
        ("model/x.py:X.forward", "'X.forward' is not a name in Python"),
        ("model/x.py:", "'' is not a name in Python"),
    ],
)
def test_a_place_that_cannot_be(text, reason):
    with pytest.raises(ValueError, match=r"such as model/tabm\.py:TabM") as told:
        code_place(text)
    assert str(told.value).startswith(f"code is {text!r}; ")
    assert reason in str(told.value)


SHA = "3b8a6abd697a6623ef2ccbffc3e2802e167e7fdaa853003d3bd557b0ce7f5d2a"


def test_sources(tmp_path):
    (tmp_path / "own.csv").write_text("a\n1\n")
    adult = CATALOGUE["adult"].sha256
    assert source_facts({"source": "catalogue:adult"}, tmp_path) == ({"sha256": adult}, "")
    given = {"source": "catalogue:adult", "sha256": adult.upper()}
    assert source_facts(given, tmp_path) == ({"sha256": adult}, "")
    web = {"source": "https://example.org/a.csv", "sha256": SHA}
    assert source_facts(web, tmp_path) == ({"sha256": SHA}, "")
    assert source_facts({"source": "own.csv"}, tmp_path) == ({}, "")
    assert source_facts({"source": "own.csv", "sha256": SHA}, tmp_path) == ({"sha256": SHA}, "")
    assert source_facts({"source": str(tmp_path / "own.csv")}, tmp_path) == ({}, "")
    facts, warning = source_facts({"source": "other.csv"}, tmp_path)
    assert facts == {}
    assert warning == "there is no other.csv beside the plan; a run will need it"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (
            {},
            "the data set has no source. Add a line '- source: …' with catalogue:NAME, an https:// "
            "address or a local path",
        ),
        ({"sorce": "x"}, "the data set has no source. Is its line '- sorce: …' meant? Add a line"),
        (
            {"source": "catalogue:adul"},
            "Unknown data set 'adul'. Did you mean 'adult'? Available: adult, california_housing",
        ),
        (
            {"source": "catalogue:adult", "sha256": "0" * 64},
            f"sha256 is {'0' * 64}, but catalogue:adult has {CATALOGUE['adult'].sha256}; leave the "
            "line out, the catalogue knows it",
        ),
        (
            {"source": "own.csv", "sha256": "12g"},
            "sha256 is '12g'; expected 64 hexadecimal digits, as `sha256sum FILE` prints them",
        ),
        (
            {"source": "https://example.org/a.csv"},
            "https://example.org/a.csv needs its checksum, so that every run reads the same bytes. "
            "Download it once and add a line '- sha256: …' with what `sha256sum FILE` prints",
        ),
        (
            {"source": "s3://bucket/a.csv"},
            "source is 's3://bucket/a.csv'; expected catalogue:NAME, an https:// address or a "
            "local path",
        ),
        ({"source": "https:///a.csv", "sha256": SHA}, "source is 'https:///a.csv'; expected"),
        ({"source": "catalog:adult"}, "source is 'catalog:adult'; expected catalogue:NAME"),
    ],
)
def test_a_source_that_cannot_be(fields, reason, tmp_path):
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}"):
        source_facts(fields, tmp_path)


def test_ranges():
    assert metric_range("0 to 1") == (0, 1)
    assert metric_range(" −1 TO Inf ") == (-1, math.inf)
    assert metric_range("-inf to 0.5") == (-math.inf, 0.5)


@pytest.mark.parametrize("text", ["", "0", "0 - 1", "1 to 0", "0 to 0", "0 to nan", "0 to 1 to 2"])
def test_a_range_that_cannot_be(text):
    with pytest.raises(ValueError, match="such as 0 to 1 or 0 to inf") as told:
        metric_range(text)
    assert str(told.value).startswith(f"range is {text!r}; expected the lower end, 'to' and the")


def test_goals():
    assert metric_goal({"goal": "lower"}) == "lower"
    with pytest.raises(ValueError, match="no goal") as told:
        metric_goal({"gaol": "lower"})
    assert str(told.value) == (
        "the metric has no goal. Is its line '- gaol: …' meant? Add '- goal: higher' or "
        "'- goal: lower', whichever is good"
    )
    with pytest.raises(ValueError, match="goal is") as told:
        metric_goal({"goal": "hihger"})
    assert str(told.value) == ("goal is 'hihger'; expected higher or lower. Did you mean 'higher'?")


def test_comparisons():
    assert comparisons("tabm against mlp, trees") == (("tabm", ("mlp", "trees")),)
    assert comparisons("a against b; c  AGAINST a") == (("a", ("b",)), ("c", ("a",)))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("tabm", "expected models of the records, such as tabm against mlp, trees; separate"),
        ("tabm against mlp,", "expected models of the records"),
        ("tabm against mlp;", "expected models of the records"),
        ("against mlp", "expected models of the records"),
        ("mlp against mlp", "it names a model twice, remove one"),
        ("tabm against mlp, mlp", "it names a model twice, remove one"),
    ],
)
def test_a_comparison_that_cannot_be(text, reason):
    with pytest.raises(ValueError, match="compare is") as told:
        comparisons(text)
    assert str(told.value).startswith(f"compare is {text!r}; {reason}")


def test_numbers():
    assert whole_number("seeds", "5") == 5
    assert confidence("0.9") == 0.9
    for text in ("0", "-1", "1.5", "five", "", "9" * 10, "²"):
        with pytest.raises(ValueError, match="whole number") as told:
            whole_number("seeds", text)
        assert str(told.value) == (
            f"seeds is {text!r}; expected a whole number of at least 1, such as 5"
        )
    for text in ("95 %", "95", "1", "0.2", "nan", ""):
        with pytest.raises(ValueError, match="confidence") as told:
            confidence(text)
        assert str(told.value) == (
            f"confidence is {text!r}; expected a number of at least 0.5 and below 1, such as 0.95"
        )
