"""The report of image-text pairs: well-formed, self-contained, inert, and saying what was found."""

import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from page_reader import Page
from PIL import Image

from maquette.errors import RunError
from maquette.evaluation.baselines import Baseline
from maquette.evaluation.embedding_map import pca_map, tsne_map
from maquette.evaluation.linear_probe import linear_probe
from maquette.evaluation.pair_plots import NUM_HUES, label_hues, map_plot, recall_plot
from maquette.evaluation.pair_report import render_pair_report, write_pair_report
from maquette.evaluation.pair_report_data import (
    Neighbour,
    PairReportData,
    Query,
    SizeScore,
    WiseFt,
)
from maquette.evaluation.pair_report_sections import classes, maps, resolutions, training, verdict
from maquette.evaluation.pair_table import pair_table
from maquette.evaluation.report_data import Picture
from maquette.evaluation.retrieval import (
    chance_metrics,
    retrieval_intervals,
    retrieval_ranks,
    retrieval_scores,
)
from maquette.evaluation.zero_shot import zero_shot

HOSTILE = "<script>alert('1')</script>\"&{{ 7*7 }}"
CLASSES = ("cat", "dog", "owl")


def png_of(side=8):
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (200, 90, 30)).save(buffer, format="PNG")
    return buffer.getvalue()


def prefixed(split, metrics):
    return {f"{split}/{name}": value for name, value in metrics.items()}


def scene(n=40, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(n, 6))
    return images, images + rng.normal(size=(n, 6))


def bare(n=40, **changes):
    """What every run has, and nothing else."""
    images, texts = scene(n)
    found = retrieval_ranks(images, texts, np.arange(n), np.arange(n))
    scores = retrieval_scores(found.image_to_text, found.text_to_image)
    metrics = {name: float(value) for name, value in scores.items()}
    intervals = retrieval_intervals(found, resamples=20)
    facts = {
        "title": "trial",
        "subtitle": "clip_tiny on data/pairs.csv",
        "created": "2026-01-02 03:04 UTC",
        "metrics": prefixed("test", metrics) | prefixed("valid", metrics),
        "intervals": prefixed("test", intervals),
        "chance": chance_metrics(np.arange(n), np.arange(n)),
        "num_images": n,
        "num_texts": n,
        "source": "data/pairs.csv",
        "split_sizes": {"train": 170, "valid": 15, "test": n},
        "model_facts": {"parameters": "1,212,931"},
        "timings": {"training": "1.3 s"},
        "environment": {"python": "3.11.7"},
        "recipe_yaml": "# a comment\nname: trial\n",
        "commands": {"Serve it": "maquette serve runs/trial"},
    }
    return PairReportData(**(facts | changes))


def history(epochs=5):
    return [
        {
            "epoch": epoch,
            "train/loss": 4 / epoch,
            "valid/loss": 4.2 / epoch,
            "valid/mean_recall": 0.5 - 0.4 / epoch,
            "valid/temperature": 0.07 / epoch,
            "valid/loss_infonce": 3 / epoch,
            "valid/loss_in_modal": 0.4 / epoch,
        }
        for epoch in range(1, epochs + 1)
    ]


def query(direction, rank, *, picture=True):
    best = [
        Neighbour(
            similarity=0.5 - place / 10,
            is_right=place + 1 == rank,
            caption=f"answer {place}",
            picture_png=png_of() if picture and direction == "text_to_image" else None,
        )
        for place in range(3)
    ]
    return Query(
        direction=direction, caption="what was asked", picture_png=png_of(), rank=rank, best=best
    )


def whole(**changes):
    """A run with everything there is to show."""
    base = bare()
    images, texts = scene()
    labels = [CLASSES[row % 3] for row in range(40)]
    truth = np.arange(40) % 3
    prompts = np.random.default_rng(1).normal(size=(2, 3, 6))
    plain = {name.removeprefix("test/"): value for name, value in base.metrics.items()}
    worse = {name: value / 2 for name, value in plain.items()}
    facts = {
        "baselines": [Baseline(name="before training", metrics=worse, seconds=1.0)],
        "history": history(),
        "best_epoch": 4,
        "wise_ft": WiseFt(alphas=(0, 0.5, 1), scores=(0.1, 0.4, 0.3), best_alpha=0.5),
        "sizes": [SizeScore(size=size, metrics=plain) for size in (32, 64)],
        "image_size": 64,
        "gallery": [
            query("image_to_text", 1),
            query("image_to_text", 12.5),
            query("text_to_image", 2),
            query("text_to_image", 1, picture=False),
        ],
        "zero_shot": zero_shot(
            images, prompts, truth, classes=CLASSES, prompts=("a {}", "the {}"), scale=10
        ),
        "linear_probe": linear_probe(images, labels, images, labels),
        "embedding_maps": [pca_map(images, texts, labels=labels, captions=labels)],
        "class_counts": {"train": dict.fromkeys(CLASSES, 50), "test": dict.fromkeys(CLASSES, 13)},
        "pictures": [Picture(caption="a cat", picture_png=png_of())],
        "data_facts": {"domain": "medical"},
        "warnings": ["3 % of the captions repeat."],
        "quarantined": [{"place": "pairs.csv:17", "reason": "the image is missing"}],
    }
    return replace(base, **(facts | changes))


ALL = [
    bare(),
    bare(n=1, intervals={}),
    bare(n=2, history=history(1), best_epoch=1),
    bare(history=[{"epoch": epoch, "train/loss": 1.0} for epoch in (1, 2)]),
    whole(),
    whole(zero_shot=None),
    whole(linear_probe=None),
    whole(sizes=[SizeScore(size=32, metrics={})]),
    whole(embedding_maps=[pca_map(*scene())]),
]


@pytest.mark.parametrize("data", ALL)
def test_pages_are_well_formed_and_self_contained(data):
    content = render_pair_report(data)
    page = Page(content)
    assert len(page.ids) == len(set(page.ids))
    assert all(link[1:] in page.ids for link in page.links)
    assert all(link.startswith("#") for link in page.links)
    assert all(source.startswith("data:image/") for source in page.sources)
    assert not re.search(r"https?:|url\(|@import|//\w", content)
    assert ">nan<" not in content.lower()
    assert len(content) < 300_000


def test_nothing_from_the_data_becomes_markup():
    base = whole()
    shown = zero_shot(
        scene()[0], np.ones((2, 2, 6)), [0, 1] * 20,
        classes=(HOSTILE, "<b>two"), prompts=(HOSTILE, "<b>{}"), scale=1,
    )  # fmt: skip
    answers = [Neighbour(similarity=0.1, is_right=True, caption=HOSTILE)]
    hostile = [
        Query(direction=way, caption=HOSTILE, picture_png=png_of(), rank=1, best=answers)
        for way in ("image_to_text", "text_to_image")
    ]
    last = {"epoch": 9, f"valid/loss_{HOSTILE}": 1.0}
    data = replace(
        base,
        title=HOSTILE, subtitle=HOSTILE, source=HOSTILE, created=HOSTILE, monitor=HOSTILE,
        gallery=hostile, zero_shot=shown, history=[*base.history, last],
        wise_ft=WiseFt(alphas=(0, 1), scores=(0, 1), best_alpha=1, metric=HOSTILE),
        embedding_maps=[pca_map(*scene(), labels=[HOSTILE] * 40, captions=[HOSTILE] * 40)],
        class_counts={HOSTILE: {HOSTILE: 3}}, split_sizes={HOSTILE: 3},
        pictures=[Picture(caption=HOSTILE, picture_png=png_of())],
        data_facts={HOSTILE: HOSTILE}, warnings=[HOSTILE],
        quarantined=[{"place": HOSTILE, "reason": HOSTILE}],
        model_facts={HOSTILE: HOSTILE}, timings={HOSTILE: HOSTILE}, environment={HOSTILE: HOSTILE},
        recipe_yaml=f"{HOSTILE}\nkey: {HOSTILE}\n", commands={HOSTILE: HOSTILE},
        baselines=[Baseline(name=HOSTILE, metrics={"mean_recall": 0.5}, seconds=0)],
    )  # fmt: skip
    content = render_pair_report(data)
    assert content.count("<script") == 1  # our own
    assert "<b>two" not in content
    assert "<b>{}" not in content
    assert ">49<" not in content
    assert HOSTILE in Page(content).text


def test_the_same_data_gives_the_same_bytes_whole_or_not_at_all(tmp_path):
    for name in ("one.html", "two.html"):
        write_pair_report(tmp_path / name, whole())
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"report\.html"):
        write_pair_report(tmp_path / "file" / "report.html", bare())


def test_what_the_page_says():
    data = whole()
    text = Page(render_pair_report(data)).text
    low, high = data.intervals["test/mean_recall"]
    assert f"{low:.3f} to {high:.3f}" in text
    assert "each text looks for its image among 40, each image for its text among 40." in text
    assert "Intervals cover 95 %, from resampling the queries." in text
    assert "bundle holds the weights of epoch 4, the best by valid/mean_recall." in text
    for words in (
        "before training",
        "Parts of the loss",
        "in modal",
        "Temperature",
        "Mean recall of averaged weights",
        "kept: 0.5",
        "trained: 64",
        "64 px (trained)",
        "Images, and the texts they found",
        "rank 12.5 of 40",
        "Zero-shot, first prompt",
        "Zero-shot, all 2 prompts",
        "Linear probe on 40 images",
        "2 prompts, each alone",
        "1 sample was set aside",
        "3 % of the captions repeat.",
        "maquette serve runs/trial",
    ):
        assert words in text, words


def test_what_was_not_measured_leaves_no_trace():
    text = Page(render_pair_report(bare())).text
    for heading in ("Training", "Image sizes", "Neighbours", "Classes", "Map", "baselines"):
        assert heading not in text


def test_right_answers_are_marked():
    content = render_pair_report(whole())
    assert content.count('class="is-right"') == 3  # rank 12.5 is not among the answers shown
    assert content.count('<span class="good">rank 1 of 40') == 2


def test_the_verdict_names_chance_and_the_baseline():
    data = whole()
    recall = 100 * data.metrics["test/image_to_text_r5"]
    said = verdict(data)
    assert "The right text is among the first five of 40 for" in said
    assert f"{recall:.1f}".rstrip("0").rstrip(".") in said
    assert (
        "chance would give 12.5\u00a0% and 12.5\u00a0%. Ahead of the best baseline, before" in said
    )


def test_the_verdict_of_few_candidates_asks_for_the_first():
    said = verdict(bare(n=6))
    assert "The right text comes first of 6 for" in said
    assert "the right image of 6 for" in said
    assert said.endswith("chance would give 16.7\u00a0% and 16.7\u00a0%.")


def test_one_epoch_has_no_curves():
    found = training(bare(history=history(1), best_epoch=1))
    assert found["plots"] == []
    assert found["note"].startswith("One epoch")


def test_curves_of_what_the_history_has():
    assert len(training(bare(history=history()))["plots"]) == 4
    plain = [{"epoch": e, "train/loss": 1.0 / e, "valid/loss": 1.2 / e} for e in (1, 2, 3)]
    assert len(training(bare(history=plain))["plots"]) == 1


def test_one_size_is_no_curve():
    assert resolutions(bare()) is None
    assert resolutions(whole(sizes=whole().sizes[:1])) is None
    rows = resolutions(whole())["rows"]
    assert [row["is_own"] for row in rows] == [False, True]
    assert len(rows[0]["values"]) == 9


def test_many_classes_and_one_prompt():
    names = tuple(f"class {index}" for index in range(20))
    shown = zero_shot(
        np.random.default_rng(0).normal(size=(40, 6)),
        np.random.default_rng(1).normal(size=(1, 20, 6)),
        np.arange(40) % 20, classes=names, prompts=("{}",), scale=1,
    )  # fmt: skip
    section = classes(whole(zero_shot=shown, linear_probe=None))
    assert [title for title, _ in section["rows"]] == ["Zero-shot, first prompt"]
    assert (len(section["classes"]), len(section["more_classes"])) == (16, 4)
    assert classes(bare()) is None


def test_hues_go_to_the_commonest_labels():
    labels = [label for index, label in enumerate("abcdefghij") for _ in range(20 - index)]
    hues = label_hues(labels[::-1])
    assert [hues[label] for label in "abcdefghij"] == [0, 1, 2, 3, 4, 5, 6, 7, 7, 7]
    assert label_hues(["b", "a"]) == {"a": 0, "b": 1}


@pytest.mark.parametrize(("count", "last"), [(3, "c"), (NUM_HUES + 1, "h"), (10, "3 others")])
def test_the_legend_names_what_has_a_colour(count, last):
    labels = ["abcdefghij"[row % count] for row in range(40)]
    legend = maps(bare(embedding_maps=[pca_map(*scene(), labels=labels)]))["legend"]
    assert legend[-1][1] == last
    assert len(legend) == min(count, NUM_HUES + 1)


def test_maps_keep_both_axes_at_one_scale():
    shown = pca_map(*scene())
    drawn = map_plot(replace(shown, images=shown.images * [1, 0], texts=shown.texts * [1, 0]), {})
    heights = set(re.findall(r'cy="([\d.]+)"', drawn))
    assert len(heights) == 1
    assert "40 images as dots and their texts as rings" in drawn
    assert "hue-0" in drawn
    assert "hue-1" in drawn
    both = tsne_map(*scene(), captions=["x" * 200] * 40)
    assert "t-SNE" in map_plot(both, {})
    assert "x" * 91 not in map_plot(both, {})


def test_the_recall_plot_shows_chance_and_intervals():
    plain = {name.removeprefix("test/"): value for name, value in bare().metrics.items()}
    drawn = recall_plot(plain, bare().chance, {})
    assert drawn.count('class="chance"') == 6
    assert "whisker" not in drawn
    assert recall_plot(plain, bare().chance, {"image_to_text_r5": (0.1, 0.4)}).count("whisker") == 1


def summary_of(data, **more):
    base = {
        "metrics": dict(data.metrics),
        "intervals": {name: list(limits) for name, limits in data.intervals.items()},
        "confidence": 0.95,
        "baselines": {"before training": {"test/mean_recall": 0.125}},
    }
    return json.loads(json.dumps(base | more))


def test_lines_for_the_terminal():
    data = bare()
    lines = pair_table(summary_of(data, chance=dict(data.chance)))
    assert len(lines) == 12
    assert lines[0].split("  ")[0] == "test"
    assert re.search(r"this model +95% interval +chance +before training$", lines[0])
    low, high = data.intervals["test/mean_recall"]
    value = data.metrics["test/mean_recall"]
    chance = data.chance["mean_recall"]
    cells = re.split(r"  +", lines[1])
    expected = [f"{value:.3f}", f"{low:.3f} – {high:.3f}", f"{chance:.3f}", "0.125"]
    assert cells == ["mean_recall", *expected]
    assert any(line.startswith("image_to_text_median_rank") and " 20.5" in line for line in lines)
    assert {len(line) for line in lines[:2]} == {len(lines[0])}


def test_lines_of_sizes_and_classifiers():
    data = whole()
    more = {
        "sizes": [{"size": one.size, "metrics": dict(one.metrics)} for one in data.sizes],
        "zero_shot": data.zero_shot.metrics,
        "linear_probe": data.linear_probe.metrics,
    }
    lines = pair_table(summary_of(data, **more))
    heads = [line.split("  ")[0] for line in lines]
    assert heads[-7:] == ["image size", "32", "64", "", "classes", "zero-shot", "linear probe"]
    accuracy = data.linear_probe.metrics["accuracy"]
    assert f"{accuracy:.3f}" in lines[-1]


def test_lines_of_an_old_summary():
    summary = summary_of(bare()) | {"intervals": {}, "baselines": {}}
    del summary["metrics"]["test/image_to_text_mrr"]
    lines = pair_table(summary)
    assert len(lines) == 11
    assert not any("image_to_text_mrr" in line for line in lines)
