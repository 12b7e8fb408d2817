"""Retrieval against open_clip's training metrics and torchmetrics, zero-shot against open_clip.

Stored numbers run in the ordinary suite; with `-m peers` numbers made just now from another seed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from facts import read_facts
from retrieval_cases import CAPTIONS, one_caption, prompts, several_captions

from maquette.evaluation.retrieval import retrieval_metrics
from maquette.evaluation.zero_shot import class_embeddings


@pytest.fixture(scope="module", params=["golden", pytest.param("live", marks=pytest.mark.peers)])
def facts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return read_facts(request.param, "retrieval", tmp_path_factory.mktemp("live"), seed=1)


def test_open_clip_with_one_caption_per_image(facts: Any):
    """Their median rank is rounded down; ours is the median."""
    images, texts = one_caption(facts["made with"]["seed"])
    rows = np.arange(len(images))
    ours, theirs = retrieval_metrics(images, texts, rows, rows), facts["open_clip"]
    for way in ("image_to_text", "text_to_image"):
        for k in (1, 5, 10):
            assert ours[f"{way}_r{k}"] == pytest.approx(theirs[f"{way}_R@{k}"], abs=1e-12)
        assert math.floor(ours[f"{way}_median_rank"]) == theirs[f"{way}_median_rank"]


def test_torchmetrics_with_several_captions(facts: Any):
    images, texts = several_captions(facts["made with"]["seed"])
    rows = np.arange(len(texts))
    ours = retrieval_metrics(images[rows // CAPTIONS], texts, rows // CAPTIONS, rows)
    for name, value in facts["torchmetrics"].items():
        assert ours[name] == pytest.approx(value, abs=1e-6), name  # theirs is float32


def test_open_clip_zero_shot_weights(facts: Any):
    ours = class_embeddings(prompts(facts["made with"]["seed"]))
    np.testing.assert_allclose(ours, facts["zero-shot weights"], rtol=0, atol=1e-12)
