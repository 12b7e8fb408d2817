"""Verdicts: a good run passes every check, and each fault fails exactly its own."""

from __future__ import annotations

import math

import pytest
from judged_runs import (
    GIB,
    SHA,
    SmallLimits,
    evidence,
    item,
    plan,
    record,
    training,
)

from maquette.research.judging.judge import OF_THE_RECORD, OF_THE_RUN, judge
from maquette.research.judging.metric_checks import (
    expected_sha256,
    margin,
    metric_range,
    num_tested,
)
from maquette.research.judging.verdict import SHOWN, Verdict, last_line, shown, verdict_lines

LIMITS = SmallLimits()


def failed(found, of=None) -> dict[str, Verdict]:
    """Return the verdicts that did not pass, by check."""
    verdicts = judge(found, of or plan(), LIMITS)
    return {verdict.check: verdict for verdict in verdicts if not verdict.passed}


def test_a_good_run_passes_every_check():
    verdicts = judge(evidence(), plan(), LIMITS)

    assert [verdict.check for verdict in verdicts if not verdict.passed] == []
    assert len(verdicts) == len(OF_THE_RUN) + len(OF_THE_RECORD)
    assert all(verdict.found and verdict.remedy is None for verdict in verdicts)
    assert len({verdict.check for verdict in verdicts}) == len(verdicts)


@pytest.mark.parametrize(
    ("changes", "check", "found"),
    [
        ({"exit_code": 1, "stderr_tail": "boom\nValueError: no\n"}, "run ends", "ValueError: no"),
        ({"exit_code": 3, "stderr_tail": ""}, "run ends", "exit code 3: no message"),
        ({"wrote_outside": ("/home/ada/x (open)",)}, "files", "/home/ada/x (open)"),
        ({"bad_gradients": ("step 12: nan in layer.weight",)}, "finite gradients", "step 12: nan"),
        ({"bad_losses": ("step 3: inf",)}, "finite losses", "step 3: inf"),
        ({"read_files": {}}, "data sets", "no file with its sha256 was read"),
        ({"record": record(epochs=1)}, "epochs", "the record says 1 epochs"),
        (
            {"record": record(training(losses=[0.7]))},
            "epochs",
            "losses of fewer: wine/net seed 0: 1",
        ),
        (
            {"record": record(training(losses=[0.5, 0.5]))},
            "loss falls",
            "wine/net seed 0: 0.5 to 0.5",
        ),
        ({"record": record(training(losses=[], grad_norms=[]))}, "loss falls", "no training has"),
        (
            {"record": record(training(losses=[None, 0.4]))},
            "finite losses",
            "wine/net seed 0: epoch 1",
        ),
        (
            {"record": record(training(grad_norms=[1.0, None]))},
            "finite gradients",
            "wine/net seed 0: epoch 2",
        ),
        (
            {"record": record(training(metrics={"accuracy": None}))},
            "metric range",
            "accuracy is NaN or infinite",
        ),
        (
            {"record": record(training(metrics={"accuracy": 80.0}))},
            "metric range",
            "Accuracy is 80, the plan says 0 to 1",
        ),
        (
            {"record": record(training(metrics={"accuracy": 0.3}))},
            "baseline",
            "wine/net: Accuracy is 0.3, the trivial answer 0.6 (margin 0.2)",
        ),
        (
            {"record": record(training(baseline={}))},
            "baseline",
            "`baseline` of the record has no Accuracy, the plan names 'majority class'",
        ),
        ({"record": record(training(metrics={"f1": 0.5}))}, "metrics", "Accuracy is in no"),
        (
            {"record": record(datasets={"adult": {"sha256": SHA, "samples": 9}})},
            "data sets",
            "Wine is not in `datasets` of the record",
        ),
        (
            {"record": record(datasets={"wine": {"sha256": "cd" * 32, "samples": 9}})},
            "data sets",
            "Wine has sha256 cdcdcdcdcdcd…, the plan says abababababab…",
        ),
    ],
)
def test_each_fault_fails_its_own_check(changes, check, found):
    verdict = failed(evidence(**changes))[check]

    assert found in verdict.found
    assert verdict.remedy


@pytest.mark.parametrize(
    "changes",
    [
        {"wrote_outside": ("/x (open)",)},
        {"bad_gradients": ("step 1: inf in w",)},
        {"bad_losses": ("step 3: inf",)},
        {"read_files": {}},
        {"record": record(training(losses=[0.5, 0.5]))},
        {"record": record(training(metrics={"accuracy": 0.3}))},
        {"record": record(training(baseline={}))},
    ],
)
def test_a_single_fault_fails_one_check_only(changes):
    assert len(failed(evidence(**changes))) == 1


@pytest.mark.parametrize(
    ("ended", "says", "checks"),
    [
        ("time_limit", "stopped at the time limit", {"run ends", "time", "record"}),
        ("memory_limit", "stopped at the memory limit", {"run ends", "memory", "record"}),
        ("output_limit", "printed without end", {"run ends", "output", "record"}),
    ],
)
def test_a_run_stopped_at_a_limit_fails_that_limit(ended, says, checks):
    found = failed(evidence(ended=ended, exit_code=None, record=None))

    assert set(found) == checks
    assert says in found["run ends"].found


def test_time_and_memory_tell_what_was_taken_and_allowed():
    verdicts = {v.check: v for v in judge(evidence(gpu_peak_bytes=GIB // 2), plan(), LIMITS)}

    assert verdicts["time"].found == "3.0 s of at most 60 s"
    assert verdicts["memory"].found == "peak 1.00 GiB of at most 2 GiB; GPU 0.50 GiB"


def test_the_gpus_peak_has_a_limit_where_one_is_given():
    limits = SmallLimits(gpu_memory_bytes=GIB)
    for peak, passed in ((GIB, True), (2 * GIB, False), (None, True)):
        verdict = judge(evidence(gpu_peak_bytes=peak), plan(), limits)[2]
        assert (verdict.check, verdict.passed) == ("memory", passed)
    verdict = judge(evidence(gpu_peak_bytes=2 * GIB), plan(), limits)[2]
    assert verdict.found.endswith("; GPU 2.00 GiB of at most 1 GiB")
    assert verdict.remedy == "use a smaller batch, or raise --gpu-memory-limit"


def test_silence_is_a_note_beside_a_record_and_a_failure_without():
    silent = {"stdout_tail": " \n", "stderr_tail": ""}

    assert failed(evidence(**silent)) == {}
    found = failed(evidence(**silent, record=None, record_problem="no run.json"))
    assert found["output"].found == "printed nothing and left no record"
    assert found["output"].remedy.startswith("call main() at the end of run.py")
    assert found["record"].found == "no run.json"
    assert found["record"].remedy.startswith("write it with utils/record.py")


def test_a_run_that_was_stopped_needs_its_diagnosis_not_a_record():
    stopped = {"ended": "memory_limit", "exit_code": None, "stdout_tail": "", "stderr_tail": ""}
    found = failed(evidence(**stopped, record=None))

    assert found["output"].remedy == found["record"].remedy == "see the diagnosis"


def test_without_a_record_only_the_run_is_judged():
    verdicts = judge(evidence(record=None), plan(), LIMITS)

    assert len(verdicts) == len(OF_THE_RUN)
    assert verdicts[-1].found == "no run.json in the output folder"


def test_models_without_epochs_are_no_failure_beside_one_with():
    trees = training(model="trees", losses=[], grad_norms=[])

    assert failed(evidence(record=record(training(), trees))) == {}


def test_gradients_of_a_run_without_torch_are_those_of_its_record():
    verdicts = {v.check: v for v in judge(evidence(steps=0), plan(), LIMITS)}

    assert verdicts["finite gradients"].passed
    assert verdicts["finite gradients"].found == "no optimiser step was seen; 2 norms in the record"


def test_all_models_of_a_data_set_need_the_same_metrics():
    wanted = plan(*plan().items, item("metric", "Log loss", goal="lower"))
    both = training(metrics={"accuracy": 0.8, "log_loss": 0.4})
    one = training(model="mlp", metrics={"accuracy": 0.8})
    none = training(model="trees", metrics={"other": 1.0})

    assert failed(evidence(record=record(both)), wanted) == {}
    found = failed(evidence(record=record(both, one, none)), wanted)["metrics"].found
    assert "wine/mlp seed 0 lacks Log loss" in found
    assert "wine/trees seed 0 has none of the plan's metrics" in found


def test_other_data_sets_may_have_other_metrics():
    wanted = plan(*plan().items, item("metric", "RMSE", goal="lower"))
    numbers = training(dataset="housing", metrics={"rmse": 2.0})

    assert failed(evidence(record=record(training(), numbers)), wanted) == {}


def test_seeds_are_averaged_before_the_comparison_with_the_trivial_answer():
    seeds = [training(seed=seed, metrics={"accuracy": x}) for seed, x in enumerate((0.3, 0.7))]

    assert "baseline" in failed(evidence(record=record(seeds[0])))
    assert failed(evidence(record=record(*seeds))) == {}


def test_a_metric_without_a_baseline_is_not_compared():
    for fields in ({}, {"baseline": "none"}):
        metric = item("metric", "Accuracy", goal="higher", **fields)
        wanted = plan(*plan().items[:3], metric)
        verdicts = judge(evidence(record=record(training(baseline={}))), wanted, LIMITS)
        assert verdicts[-1].passed
        assert "no metric of the plan names a baseline" in verdicts[-1].found


def test_for_a_lower_goal_worse_is_higher():
    wanted = plan(*plan().items[:3], item("metric", "RMSE", goal="lower", baseline="the mean"))

    def run(value):
        one = training(metrics={"rmse": value}, baseline={"rmse": 1.0})
        return failed(evidence(record=record(one)), wanted)

    assert run(0.2) == {}
    assert run(1.1) == {}
    assert "RMSE is 1.3, the trivial answer 1" in run(1.3)["baseline"].found


def test_the_margin_is_that_of_the_formula():
    accuracy = item("metric", "Accuracy", range="0 to 1")
    rmse = item("metric", "RMSE", range="0 to inf")

    assert margin(accuracy, 0.5, samples=400) == pytest.approx(1.96 / 20)
    assert margin(rmse, -3.0, samples=400) == pytest.approx(1.96 * 3 / 20)
    assert margin(accuracy, 0.5, samples=0) == pytest.approx(1.96)


def test_chance_rarely_exceeds_the_margin():
    """Two classifiers of equal worth on the same samples differ by less than the margin, mostly."""
    numpy = pytest.importorskip("numpy")
    draw = numpy.random.default_rng(0)
    right = draw.random((2, 2000, 100)) < 0.5
    gap = right[0].mean(axis=1) - right[1].mean(axis=1)
    allowed = margin(item("metric", "A", range="0 to 1"), 0.5, samples=100)

    assert (gap > allowed).mean() < 0.025


def test_tested_samples_are_the_records_or_a_fifth():
    told = record(training(test_samples=77), training(), training(dataset="other"))

    assert [num_tested(one, told) for one in told.trainings] == [77, 100, 1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 to 1", (0, 1)),
        ("0 to inf", (0, math.inf)),
        (" -1 to 1 ", (-1, 1)),
        ("", (-math.inf, math.inf)),
        ("low to high", (-math.inf, math.inf)),
    ],
)
def test_ranges_are_read(text, expected):
    assert metric_range(item("metric", "A", range=text)) == expected


def test_the_catalogue_knows_checksums():
    adult = expected_sha256(item("dataset", "Adult", source="catalogue:adult"))

    assert adult == ("3b8a6abd697a6623ef2ccbffc3e2802e167e7fdaa853003d3bd557b0ce7f5d2a", True)
    assert expected_sha256(item("dataset", "D", source="catalogue:digits"))[1] is False
    assert expected_sha256(item("dataset", "D", source="data/x.csv")) == (None, True)
    assert expected_sha256(item("dataset", "D", source="x", sha256=f"`{SHA.upper()}`"))[0] == SHA


def test_a_local_data_set_without_checksum_needs_only_its_record():
    wanted = plan(item("dataset", "Wine", source="wine.csv"), *plan().items[1:])

    assert failed(evidence(read_files={}), wanted) == {}


def test_digits_are_in_no_file():
    digits = item("dataset", "Digits", source="catalogue:digits")
    facts = {"digits": {"sha256": expected_sha256(digits)[0], "samples": 1797}}
    found = evidence(read_files={}, record=record(datasets=facts))

    assert "data sets" not in failed(found, plan(digits, *plan().items[1:]))


def test_many_places_are_counted():
    assert shown(["a", "b"]) == "a; b"
    assert shown(["a"] * (SHOWN + 2)) == "a; a; a; and 2 more"
    assert last_line("a\nb\n\n") == "b"
    assert last_line("") == ""


def test_lines_are_aligned_and_name_remedies():
    lines = verdict_lines((Verdict("time", True, "3 s"), Verdict("loss falls", False, "x", "do")))

    assert lines == [
        "ok    time        3 s",
        "FAIL  loss falls  x",
        "                  -> do",
    ]
    assert verdict_lines(()) == []
