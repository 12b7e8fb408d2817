"""Means, deviations, intervals and paired differences: against values worked out by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from judged_runs import item, plan, training

from maquette.errors import DataError, UsageError
from maquette.research.planning.plan import Plan
from maquette.research.records import RunRecord
from maquette.research.reporting.summary import Signs, estimate, summarise, t_quantile


def record(*trainings: dict[str, Any]) -> RunRecord:
    return RunRecord.model_validate(
        {
            "format": 1,
            "command": "python run.py",
            "epochs": 9,
            "seconds": 1.0,
            "datasets": {},
            "trainings": trainings,
        }
    )


def runs(model: str, scores: list[float | None], dataset: str = "wine") -> list[dict[str, Any]]:
    return [
        training(model=model, dataset=dataset, seed=seed, metrics={"accuracy": score})
        for seed, score in enumerate(scores)
    ]


def compared(text: str = "net against tree", **testing: str) -> Plan:
    return replace(plan(), testing={"compare": text, **testing})


@pytest.mark.parametrize(
    ("confidence", "freedom", "quantile"),
    [(0.95, 4, 2.776445), (0.99, 9, 3.249836), (0.9, 1, 6.313752), (0.95, 1000, 1.962339)],
)
def test_quantiles_are_those_of_the_printed_tables(
    confidence: float, freedom: int, quantile: float
) -> None:
    assert t_quantile(confidence, freedom) == pytest.approx(quantile, abs=1e-6)


def test_an_interval_worked_out_by_hand() -> None:
    found = estimate([1.0, 2.0, 3.0, 4.0, 5.0], 0.95)
    half = 2.776445 * math.sqrt(2.5) / math.sqrt(5)
    assert (found.count, found.failed, found.mean) == (5, 0, 3.0)
    assert found.deviation == pytest.approx(math.sqrt(2.5))
    assert (found.low, found.high) == (pytest.approx(3 - half), pytest.approx(3 + half))


def test_one_seed_has_no_interval_and_a_null_leaves_no_mean() -> None:
    one = estimate([0.5], 0.95)
    assert (one.mean, one.deviation, one.low, one.high) == (0.5, None, None, None)
    failed = estimate([0.5, None, 0.7], 0.95)
    assert (failed.count, failed.failed, failed.mean, failed.low) == (3, 1, None, None)


def test_differences_are_paired_by_seed_not_by_position() -> None:
    net, tree = runs("net", [0.80, 0.70, 0.90]), runs("tree", [0.78, 0.679, 0.88, 0.1])
    found = summarise(compared(), record(*net, *tree[::-1]))
    difference = found.differences["net"]["tree"]["wine"]["accuracy"]
    assert difference.mean == pytest.approx((0.02 + 0.021 + 0.02) / 3)
    assert (difference.count, difference.unpaired) == (3, 1)
    assert (difference.above, difference.below, difference.equal) == (3, 0, 0)
    assert difference.outcome == "higher"
    assert found.signs == {}


@pytest.mark.parametrize(
    ("net", "tree", "outcome"),
    [
        ([0.8, 0.7, 0.9], [0.9, 0.81, 1.0], "lower"),
        ([0.8, 0.7, 0.9], [0.9, 0.6, 0.9], "cannot be told"),
        ([0.8, 0.7], [0.8, 0.7], "equal"),
        ([0.8], [0.7], "cannot be told"),
        ([0.8, None], [0.7, 0.6], "cannot be told"),
    ],
)
def test_what_an_interval_says(
    net: list[float | None], tree: list[float | None], outcome: str
) -> None:
    found = summarise(compared(), record(*runs("net", net), *runs("tree", tree)))
    assert found.differences["net"]["tree"]["wine"]["accuracy"].outcome == outcome


def test_signs_are_counted_over_data_sets() -> None:
    trainings = [
        *runs("net", [0.8, 0.7]),
        *runs("tree", [0.7, 0.8]),
        *runs("net", [5.0, 6.0], "adult"),
        *runs("tree", [4.0, 6.0], "adult"),
        *runs("tree", [1.0], "of one model"),
    ]
    found = summarise(compared(), record(*trainings))
    assert found.signs["net"]["tree"]["accuracy"] == Signs(4, 2, 1, 1)
    assert list(found.differences["net"]["tree"]) == ["wine", "adult"]


def test_a_metric_of_one_data_set_only_has_no_common_signs() -> None:
    adult = [{**t, "metrics": {"f1": 0.5}} for t in runs("net", [0.8], "adult")]
    adult += [{**t, "model": "tree"} for t in adult]
    found = summarise(compared(), record(*runs("net", [0.8]), *runs("tree", [0.8]), *adult))
    assert found.signs["net"]["tree"] == {}


def test_every_comparison_once_and_the_confidence_of_the_plan() -> None:
    trainings = [run for name in "abc" for run in runs(name, [0.5, 0.7])]
    chosen = compared("a against b, c; b against c; a against c", confidence="0.9")
    found = summarise(chosen, record(*trainings))
    assert {m: list(others) for m, others in found.differences.items()} == {
        "a": ["b", "c"],
        "b": ["c"],
    }
    assert found.confidence == 0.9
    mean = found.means["wine"]["a"]["accuracy"]
    assert mean.high == pytest.approx(0.6 + 6.313752 * 0.1)
    assert mean.baseline == pytest.approx(0.6)
    without = summarise(plan(), record(*trainings))
    assert (without.confidence, without.differences) == (0.95, {})


def test_metrics_come_in_the_plans_order_with_their_goals() -> None:
    chosen = plan(
        item("metric", "Log loss", goal="lower"),
        item("metric", "Accuracy", goal="higher"),
        item("metric", "F1", goal="higher"),
    )
    run = training(metrics={"temperature": 1.5, "accuracy": 0.8, "log_loss": 0.3}, baseline={})
    found = summarise(chosen, record(run, training(seed=1, metrics={"accuracy": 0.9})))
    assert found.metrics == {"log_loss": "lower", "accuracy": "higher", "temperature": None}
    assert found.means["wine"]["net"]["log_loss"].failed == 1
    assert found.means["wine"]["net"]["accuracy"].baseline is None
    assert json.loads(json.dumps(found.to_json()))["means"]["wine"]["net"]["accuracy"]["count"] == 2


def test_a_training_that_is_there_twice_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        summarise(plan(), record(training(), training(seed=1), training()), source="r.json")
    assert str(caught.value) == (
        "r.json: trainings 0 and 2 are both wine/net seed 0; each counts once. "
        "Give the second another seed or another model name."
    )


def test_a_comparison_with_a_model_that_was_not_trained() -> None:
    with pytest.raises(UsageError) as caught:
        summarise(compared("net against tre"), record(*runs("net", [1]), *runs("tree", [1])))
    assert str(caught.value) == (
        "plan_res.md: compare: Unknown model of run.json 'tre'. Did you mean 'tree'? "
        "Available: net, tree."
    )
