"""`maquette compare`: text, domains, and the page with curves."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from maquette.comparing import compare_runs
from maquette.errors import RunError, UsageError


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Three runs of two domains; the last one is older than the columns `tags` and `system`."""
    facts = [
        {"domain": "medical", "dataset_sha256": "12" * 32, "loss": "hn_nce", "resolutions": "64"},
        {"domain": "industrial", "dataset_sha256": "34" * 32, "loss": "siglip"},
        None,
    ]
    folders = []
    for index, tags in enumerate(facts):
        folder = tmp_path / f"run-{index}"
        folder.mkdir()
        recipe: dict[str, Any] = {
            "name": "pairs",
            "data": {"image_text": {"path": "<pairs>.csv", "domain": "medical", "image_size": 96}},
            "model": {"type": "image_text", "name": "clip_tiny"},
            "contrastive": {"loss": "infonce"},
            "seed": index,
        }
        summary: dict[str, Any] = {
            "task": "image_text",
            "model": "clip_tiny",
            "parameters": 1_234_567,
            "epochs": 2,
            "seconds": 12.34,
            "samples_per_second": 99.6,
            "metrics": {
                "test/mean_recall": 0.2 + 0.1 * index,
                "valid/mean_recall": 0.5 - 0.1 * index,
            },
            "intervals": {"test/mean_recall": [0.15 + 0.1 * index, 0.22 + 0.1 * index]},
        }
        if tags is not None:
            summary |= {"tags": tags, "system": {"peak_memory_mib": 2048.0}}
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        (folder / "summary.json").write_text(json.dumps(summary))
        (folder / "metrics.csv").write_text(
            "epoch,step,train/loss,valid/mean_recall,temperature\n"
            f"1,4,{2 + index},0.1,0.07\n2,8,1,nan,\n"
        )
        folders.append(folder)
    return folders


def test_what_the_runs_were(runs: list[Path]):
    text = "\n".join(compare_runs(runs))
    for line in (
        "task                image_text    image_text    image_text",
        "domain              medical       industrial    medical",
        "data                <pairs>.csv   <pairs>.csv   <pairs>.csv",
        "dataset             121212121212  343434343434  –",
        "loss                hn_nce        siglip        infonce",
        "resolution          64            96            96",
        "parameters          1,234,567     1,234,567     1,234,567",
        "seconds             12.3          12.3          12.3",
        "samples per second  100           100           100",
        "peak memory         2,048 MiB     2,048 MiB     –",
    ):
        assert line in text
    assert "mean over runs" not in text


def test_means_of_the_domains(runs: list[Path]):
    lines = compare_runs(runs, domains=True)
    at = lines.index("mean over runs     medical (2)  industrial (1)")
    assert lines[at + 1 :] == [
        "test/mean_recall   0.3          0.3",
        "valid/mean_recall  0.4          0.4",
    ]


def test_one_domain_has_nothing_to_group(runs: list[Path]):
    with pytest.raises(UsageError) as error:
        compare_runs([runs[0], runs[2]], domains=True)
    assert str(error.value) == (
        "All runs are of the same domain (medical), so there is nothing to group; leave --domain "
        "out."
    )


def test_the_page(runs: list[Path], tmp_path: Path):
    page = tmp_path / "pages" / "compare.html"
    assert compare_runs(runs, html=page)[-1] == f"page: {page}"
    html = page.read_text(encoding="utf-8")
    assert "Run A has the best valid/mean_recall: 0.500." in html
    for heading in ("Runs", "Metrics", "Domains", "Training", "Recipe"):
        assert f">{heading}</h2>" in html
    assert "&lt;pairs&gt;.csv" in html
    assert "<pairs>" not in html
    assert html.count('class="line c2"') == 1  # train/loss has two points, the others one
    assert "+0.2 *" in html
    assert "tested on different samples" not in html
    assert not re.search(r"(src|href)=\"(?!#)", html)


def test_a_page_of_one_domain_without_curves(runs: list[Path], tmp_path: Path):
    for run in runs:
        (run / "metrics.csv").unlink()
    (runs[0] / "splits.json").write_text(json.dumps({"test": ["a"]}))
    (runs[2] / "splits.json").write_text(json.dumps({"test": ["b"]}))
    page = tmp_path / "compare.html"
    compare_runs([runs[0], runs[2]], html=page)
    html = page.read_text(encoding="utf-8")
    assert ">Domains</h2>" not in html
    assert ">Training</h2>" not in html
    assert "The runs were tested on different samples, so differences include luck." in html


def test_runs_without_metrics_in_common(runs: list[Path], tmp_path: Path):
    summary = json.loads((runs[0] / "summary.json").read_text())
    summary["metrics"] = {"test/rmse": 3.0}
    summary["intervals"] = {}
    for run in runs[:2]:
        (run / "summary.json").write_text(json.dumps(summary))
    page = tmp_path / "compare.html"
    compare_runs(runs[:2], html=page)
    html = page.read_text(encoding="utf-8")
    assert "The runs have no validation metric to choose by." in html
    assert "smaller is better" in html


def test_a_page_that_cannot_be_written(runs: list[Path], tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"Could not write .*compare\.html"):
        compare_runs(runs, html=tmp_path / "file" / "compare.html")


def test_the_same_recipes_say_so(runs: list[Path], tmp_path: Path):
    compare_runs([runs[0], runs[0]], html=tmp_path / "compare.html")
    html = (tmp_path / "compare.html").read_text(encoding="utf-8")
    assert "The recipes are the same." in html
    assert re.search(r"<td>0( \*)?</td>", html)
