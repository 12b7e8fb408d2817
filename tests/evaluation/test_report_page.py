"""The report: whole, self-contained, safe, the same each time, and right in what it says."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from page_reader import Page
from PIL import Image

from maquette.errors import RunError
from maquette.evaluation.accumulators import softmax
from maquette.evaluation.baselines import Baseline
from maquette.evaluation.bootstrap import classification_intervals, regression_intervals
from maquette.evaluation.metrics import classification_metrics, regression_metrics
from maquette.evaluation.report import render_report, write_report
from maquette.evaluation.report_data import (
    Column,
    Mistake,
    Picture,
    ReportData,
    category_column,
    columns_of_profile,
    largest_errors,
    most_confident_mistakes,
    number_column,
)
from maquette.evaluation.report_sections import cell_text, highlighted_yaml
from maquette.evaluation.report_text import calibration_note


def png_of(width, height):
    buffer = io.BytesIO()
    Image.effect_noise((width, height), 40).convert("RGB").save(buffer, format="PNG")
    return buffer.getvalue()


HOSTILE = "<script>alert('1')</script>\"&{{ 7*7 }}"

COMMON = {
    "title": "trial",
    "subtitle": "mlp on data/some.csv",
    "created": "2026-01-02 03:04 UTC",
    "source": "data/some.csv",
    "split_sizes": {"train": 70, "valid": 15, "test": 15},
    "model_facts": {"parameters": "12,931"},
    "timings": {"training": "1.3 s"},
    "environment": {"python": "3.11.7"},
    "recipe_yaml": "# a comment\nname: trial\ndata:\n  - one\n",
    "commands": {"Serve it": "maquette serve runs/trial"},
}


def prefixed(split, metrics):
    return {f"{split}/{name}": value for name, value in metrics.items()}


def classified(num_classes=3, n=60, **changes):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, num_classes, n)
    logits = rng.normal(size=(n, num_classes))
    logits[np.arange(n), truth] += 1.5
    rows = softmax(logits)
    names = np.array([f"class {index}" for index in range(num_classes)], dtype=object)
    metrics = classification_metrics(truth, rows)
    facts = {
        "targets": names[truth],
        "predictions": names[rows.argmax(axis=1)].tolist(),
        "probabilities": rows.astype(np.float32),
        "classes": tuple(names),
        "metrics": prefixed("test", metrics) | prefixed("valid", metrics),
        "intervals": prefixed("test", classification_intervals(truth, rows, resamples=20)),
        "history": [
            {"epoch": e, "train/loss": 1 / e, "valid/loss": 1.1 / e, "valid/accuracy": 1 - 0.5 / e}
            for e in range(1, 6)
        ],
        "best_epoch": 4,
        "baselines": [
            Baseline(name="majority class", metrics=dict.fromkeys(metrics, 0.3), seconds=0.1),
            Baseline(name="boosted trees", metrics=metrics, seconds=1.2),
        ],
        "class_counts": {"train": dict.fromkeys(names, 20), "test": dict.fromkeys(names, 5)},
    }
    return ReportData(**(COMMON | facts | changes))


def measured(n=50, **changes):
    rng = np.random.default_rng(1)
    truth = rng.normal(100, 20, n)
    answers = truth + rng.normal(0, 8, n)
    facts = {
        "targets": truth,
        "predictions": answers.tolist(),
        "target_name": "price",
        "metrics": prefixed("test", regression_metrics(truth, answers)),
        "intervals": prefixed("test", regression_intervals(truth, answers, resamples=20)),
        "mistakes": [
            Mistake(
                sample_id=f"row {row + 2}",
                truth=float(truth[row]),
                prediction=float(answers[row]),
                row={"rooms": 3, "area": 71.25, "garden": None, "street": "Elm"},
            )
            for row in largest_errors(truth, answers, 4)
        ],
    }
    return ReportData(**(COMMON | facts | changes))


ALL = [
    classified(),
    classified(num_classes=2),
    classified(num_classes=30, n=200),
    classified(history=(), baselines=(), intervals={}, class_counts=None, best_epoch=None),
    classified(history=[{"epoch": 1, "train/loss": 0.5, "valid/loss": 0.6}], best_epoch=1),
    classified(n=1),
    measured(),
    measured(n=1),
    measured(target_name=HOSTILE),
]


@pytest.mark.parametrize("data", ALL)
def test_pages_are_well_formed_and_self_contained(data):
    content = render_report(data)
    page = Page(content)
    assert len(page.ids) == len(set(page.ids))
    assert all(link[1:] in page.ids for link in page.links if link.startswith("#"))
    assert all(link.startswith("#") for link in page.links)
    assert all(source.startswith("data:image/") for source in page.sources)
    assert not re.search(r"https?:|url\(|@import|//\w", content)
    assert "NaN" not in content
    assert ">nan<" not in content
    assert len(content) < 1_000_000


def test_the_page_forbids_the_network_and_foreign_scripts():
    content = render_report(classified())
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', content)[1]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/=]{44}'$", policy)


def test_nothing_from_the_data_becomes_markup():
    names = (HOSTILE, "<b>two", "three")
    hostile_png = png_of(4, 4)
    base = classified()
    renamed = dict(zip(base.classes, names, strict=True))
    data = replace(
        base,
        title=HOSTILE, subtitle=HOSTILE, source=HOSTILE, created=HOSTILE, monitor=HOSTILE,
        classes=names,
        targets=np.array([renamed[name] for name in base.targets], dtype=object),
        predictions=[renamed[name] for name in base.predictions],
        class_counts={HOSTILE: dict.fromkeys(names, 3)},
        split_sizes={HOSTILE: 3},
        mistakes=[
            Mistake(sample_id=HOSTILE, truth=HOSTILE, prediction="<b>", row={HOSTILE: HOSTILE}),
            Mistake(sample_id=HOSTILE, truth=HOSTILE, prediction="<b>", picture_png=hostile_png),
        ],
        columns=[
            category_column(HOSTILE, np.array([HOSTILE, None], dtype=object)),
            number_column(HOSTILE, np.array([1.0, 2.0])),
        ],
        pictures=[Picture(caption=HOSTILE, picture_png=hostile_png)],
        data_facts={HOSTILE: HOSTILE}, warnings=[HOSTILE],
        quarantined=[{"place": HOSTILE, "reason": HOSTILE}],
        model_facts={HOSTILE: HOSTILE}, timings={HOSTILE: HOSTILE}, environment={HOSTILE: HOSTILE},
        recipe_yaml=f"{HOSTILE}\nkey: {HOSTILE}\n# {HOSTILE}", commands={HOSTILE: HOSTILE},
        baselines=[Baseline(name=HOSTILE, metrics={"accuracy": 0.5}, seconds=0)],
    )  # fmt: skip
    content = render_report(data)
    assert content.count("<script") == 1  # our own
    assert "<b>two" not in content
    assert ">49<" not in content
    assert HOSTILE in Page(content).text


def test_the_same_data_gives_the_same_bytes(tmp_path):
    for name in ("one.html", "two.html"):
        write_report(tmp_path / name, classified())
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


def test_what_a_classification_page_says():
    data = classified()
    text = Page(render_report(data)).text
    right = round(data.metrics["test/accuracy"] * 60)
    assert f"Right on {right} of 60 test samples. Level with the best baseline, boosted" in text
    low, high = data.intervals["test/accuracy"]
    assert f"{low:.3f} to {high:.3f}" in text
    assert "Intervals cover 95 %" in text
    assert "5 epochs; the bundle holds the weights of epoch 4, the best by valid/loss." in text
    assert f"The expected calibration error is {data.metrics['test/ece']:.3f}; perfectly" in text
    assert "Most frequent confusions" in text
    assert "None on the test split." in text
    assert "maquette serve runs/trial" in text


def test_what_a_regression_page_says():
    data = measured()
    text = Page(render_report(data)).text
    mae = data.metrics["test/mae"]
    assert f"Off by {mae:.2f} on average over 50 test samples, explaining" in text
    assert "Half of the predictions are within" in text
    assert "true price" in text
    assert "71.25" in text
    assert "Elm" in text
    assert "Largest errors" in text


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        (0.99, "Behind the best baseline, boosted trees (accuracy 0.990)."),
        (0.10, "Ahead of the best baseline, boosted trees (accuracy 0.100)."),
        (
            0.79,
            "Too close to call against the best baseline, boosted trees (accuracy 0.790, inside",
        ),
    ],
)
def test_the_verdict_claims_no_more_than_the_interval_allows(theirs, said):
    base = classified()
    data = replace(
        base,
        metrics=base.metrics | {"test/accuracy": 0.8},
        intervals={"test/accuracy": (0.7, 0.9)},
        baselines=[
            Baseline(name="majority class", metrics={"accuracy": 0.05}, seconds=0),
            Baseline(name="boosted trees", metrics={"accuracy": theirs}, seconds=0),
        ],
    )
    assert said in Page(render_report(data)).text


def test_for_errors_the_smaller_baseline_is_the_better():
    rivals = [
        Baseline(name="mean", metrics={"rmse": 90.0, "mae": 60, "r2": 0}, seconds=0),
        Baseline(name="boosted trees", metrics={"rmse": 2.0, "mae": 1, "r2": 0.9}, seconds=0),
    ]
    text = Page(render_report(measured(baselines=rivals))).text
    assert "Behind the best baseline, boosted trees (RMSE 2.000)." in text


def test_a_run_that_was_still_improving_is_told_so():
    text = Page(render_report(classified(best_epoch=5))).text
    assert "That was the last one, so more epochs may do better." in text


def test_many_classes_and_columns_are_folded():
    columns = [number_column(f"column {index}", np.arange(9.0)) for index in range(30)]
    text = Page(render_report(classified(num_classes=30, n=200, columns=columns))).text
    assert "Each class, hardest first" in text
    assert "14 more classes" in text
    assert "6 more columns" in text


def test_long_lists_are_cut_with_their_count():
    quarantined = [{"place": f"row {row}", "reason": "empty"} for row in range(60)]
    row = {f"column {index}": index for index in range(40)}
    mistake = Mistake(sample_id="row 2", truth="class 0", prediction="class 1", row=row)
    text = Page(render_report(classified(quarantined=quarantined, mistakes=[mistake]))).text
    assert "60 samples were set aside" in text
    assert "and 10 more." in text
    assert "and 28 more columns." in text


def test_columns_show_ranges_shares_dates_and_what_is_missing():
    columns = [
        number_column("weight", np.array([1.5, np.nan, 3.5, 2.5])),
        number_column("day", np.array([0.0, 365.0]), kind="date"),
        number_column("far day", np.array([-1e9, 0.0]), kind="date"),
        category_column("colour", np.array([*"rrrgbyw", None], dtype=object)),
        number_column("empty", np.array([np.nan])),
        category_column("blank", np.array([None], dtype=object)),
    ]
    text = Page(render_report(classified(columns=columns))).text
    assert "1.5 to 3.5, mean 2.5 1 missing (25 %)" in text
    assert "1970-01-01 to 1971-01-01, mean 1970-07-02" in text
    assert "day −1,000,000,000 to 1970-01-01" in text
    assert "r 43 %" in text
    assert "5 values, 1 more 1 missing (12 %)" in text
    assert "empty no values 1 missing (100 %)" in text


def test_columns_from_a_reference_profile():
    quantiles = np.linspace(0, 10, 101).tolist()
    profile = {
        "numbers": {
            "width": {"count": 99, "missing": 1, "mean": 5.0, "std": 1.0, "quantiles": quantiles},
            "day": {"count": 5, "missing": 0, "mean": 5.0, "std": 1.0, "quantiles": quantiles},
            "gone": {"count": 0, "missing": 7},
        },
        "dates": ["day"],
        "categories": {"c": {"count": 3, "missing": 0, "values": {"a": 2, "b": 1}, "other": 0}},
    }
    width, day, gone, category = columns_of_profile(profile)
    assert (width.kind, width.count, width.missing, width.mean) == ("number", 99, 1, 5.0)
    assert (width.edges[0], width.edges[-1], sum(width.counts)) == (0, 10, 101)
    assert day.kind == "date"
    assert gone == Column(name="gone", kind="number", count=0, missing=7)
    assert category.values == {"a": 2, "b": 1}


def test_worst_samples():
    rows = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.7, 0.3]])
    assert most_confident_mistakes(np.array([1, 0, 1, 1]), rows, 2).tolist() == [0, 3]
    assert largest_errors(np.array([1.0, 5, 3]), np.array([1.0, 2, 4]), 9).tolist() == [1, 2]


def test_small_pictures_stay_as_they_are_and_large_ones_shrink():
    small, large = png_of(8, 8), png_of(600, 300)
    mistakes = [
        Mistake(sample_id=name, truth="class 0", prediction="class 1", picture_png=content)
        for name, content in (("a.png", small), ("b.png", large))
    ]
    content = render_report(classified(mistakes=mistakes))
    assert 'class="pixels" alt="a.png: class 0 taken for class 1"' in content
    first, second = (base64.b64decode(p) for p in re.findall(r"image/\w+;base64,([^\"]+)", content))
    assert first == small
    thumbnail = Image.open(io.BytesIO(second))
    assert (thumbnail.format, thumbnail.size) == ("JPEG", (192, 96))


def test_a_page_of_photographs_stays_small():
    photo = png_of(800, 800)
    data = classified(
        mistakes=[Mistake(sample_id="x", truth="class 0", prediction="class 1", picture_png=photo)]
        * 12,
        pictures=[Picture(caption="x", picture_png=photo)] * 12,
    )
    assert len(render_report(data)) < 1_000_000


@pytest.mark.parametrize(
    ("sharpness", "said"),
    [(1.0, "well matched"), (4.0, "over-confident"), (0.2, "under-confident")],
)
def test_the_calibration_note_names_the_lean(sharpness, said):
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=1.5, size=(2000, 3))
    truth = np.array([rng.choice(3, p=row) for row in softmax(logits)])
    note = calibration_note(truth, softmax(logits * sharpness), ece=0.1)
    assert f": {said} overall." in note
    assert "on these 2,000 samples, by chance." in note


def test_cells():
    assert [cell_text(v) for v in (None, float("nan"), 3, 0.1 + 0.2, "x")] == [
        "", "", "3", "0.3", "x",
    ]  # fmt: skip


def test_yaml_is_marked_up_and_unchanged():
    content = "# why\na: 1\nlist:\n  - b: <x>\n  - plain"
    marked = str(highlighted_yaml(content))
    assert "<i># why</i>" in marked
    assert "<b>a:</b> 1" in marked
    assert Page(f"<pre>{marked}</pre>").words
    assert "".join(Page(f"<pre>{marked}</pre>").words) == content


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="Could not write"):
        write_report(tmp_path / "file" / "report.html", classified())


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="shorter than"):
        render_report(classified(predictions=["class 0"]))
