"""The gallery: queries spread from best to worst, their candidates in order, right ones marked."""

import numpy as np
import pytest

from maquette.evaluation.pair_gallery import gallery_rows
from maquette.evaluation.retrieval import retrieval_ranks


@pytest.fixture
def scene():
    rng = np.random.default_rng(3)
    image_groups, text_groups = np.arange(24) // 2, np.arange(24)
    images = rng.normal(size=(12, 5))[image_groups]
    texts = images + 1.2 * rng.normal(size=(24, 5))
    return images, texts, image_groups, text_groups


@pytest.mark.parametrize("direction", ["image_to_text", "text_to_image"])
def test_rows_name_what_was_ranked(scene, direction):
    images, texts, image_groups, text_groups = scene
    found = retrieval_ranks(*scene)
    rows = gallery_rows(found, images, texts, direction=direction, count=4, num_best=3)
    ranks = getattr(found, direction)
    shown = [row.rank for row in rows]
    assert len(rows) == 4
    assert (shown[0], shown[-1]) == (ranks.min(), ranks.max())
    assert shown == sorted(shown)
    queries, candidates = (images, texts) if direction == "image_to_text" else (texts, images)
    asked, answered = (
        (image_groups, text_groups) if direction == "image_to_text" else (text_groups, image_groups)
    )
    for row in rows:
        scores = [one.similarity for one in row.best]
        assert len(scores) == 3
        assert scores == sorted(scores, reverse=True)
        best = max(candidates[other] @ queries[row.row] for other in range(24))
        assert scores[0] == pytest.approx(best)
        for one in row.best:
            assert one.similarity == pytest.approx(queries[row.row] @ candidates[one.row])
            together = (asked == asked[row.row]) & (answered == answered[one.row])
            assert one.is_right == together.any()
        assert any(one.is_right for one in row.best) == (row.rank <= 3)


def test_small_sets_show_what_there_is():
    found = retrieval_ranks(np.eye(2), np.eye(2), [0, 1], [0, 1])
    rows = gallery_rows(found, np.eye(2), np.eye(2), direction="image_to_text")
    assert [row.row for row in rows] == [0, 1]
    assert [one.is_right for one in rows[0].best] == [True, False]
