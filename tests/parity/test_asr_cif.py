"""paraformer_asr's integrate-and-fire and predictors against FunASR's, values and gradients.

Stored numbers run in the ordinary suite; with `-m peers` numbers made just now from another seed.
Where the reference is right, ours is the same. Where it is not, the difference is asserted here on
purpose, so that a release of it that is mended will be noticed:

- scaled weights: float32 leaves their sum a hair below the number of tokens for about a quarter of
  utterances, and the last token is then a row of zeros. Ours is never lost;
- a frame in which two tokens are completed: the loop makes negative weights, the parallel form puts
  two tokens into one row;
- a last utterance without any token beside others: the parallel form raises an IndexError;
- weights that are all zero: the scaling divides by zero;
- padding: the predictors' convolution reads it.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from asr_cif_cases import (
    DIM,
    LENS,
    NUM_TOKENS,
    ONE_TOKEN,
    SILENT_LAST,
    TAIL,
    TWO_IN_ONE,
    alphas,
    hidden,
    lengths,
    many,
    mask,
    predictor_weights,
    probe,
)
from facts import read_facts
from paraformer_asr.cif import integrate_and_fire, integrate_and_fire_loop, overlap_weights
from paraformer_asr.predictor import CifPredictor
from torch import Tensor

LIVE_SEED = 1
TOLERANCE = 1e-5
LEAVES = ("weight", "bias")
OURS = {"cif": integrate_and_fire_loop, "cif_v1": integrate_and_fire}
"""Each form beside the one that computes in the same way; they are also compared crosswise."""


@pytest.fixture(scope="module", params=["golden", pytest.param("live", marks=pytest.mark.peers)])
def facts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the reference computed: "golden" from the stored file, "live" just now."""
    folder = tmp_path_factory.mktemp("live")
    return read_facts(request.param, "asr_cif", folder, seed=LIVE_SEED)


def close(actual: Tensor, expected: Any, tolerance: float = TOLERANCE) -> None:
    wanted = expected if isinstance(expected, Tensor) else torch.tensor(expected)
    torch.testing.assert_close(actual, wanted, atol=tolerance, rtol=tolerance)


def rows(embeds: Tensor, counts: Tensor, *, drop_last: bool) -> Tensor:
    """Real token vectors side by side, without each utterance's last where it may be lost."""
    return torch.cat([e[: int(n) - drop_last] for e, n in zip(embeds, counts, strict=True)])


@pytest.mark.parametrize("ours", [integrate_and_fire, integrate_and_fire_loop])
@pytest.mark.parametrize("form", OURS)
@pytest.mark.parametrize("scaled", [False, True])
def test_token_vectors_and_gradients_equal_both_of_the_references_forms(
    facts: Any, form: str, ours: Any, scaled: bool
):
    seed = facts["made with"]["seed"]
    theirs = facts["sums"][form + (" scaled" if scaled else "")]
    frames, weights = hidden(seed).requires_grad_(), alphas(seed).requires_grad_()
    num_tokens = torch.tensor(NUM_TOKENS) if scaled else None
    embeds, counts = ours(frames, weights, num_tokens=num_tokens, tail=0.0)
    assert counts.tolist() == theirs["counts"]
    expected = torch.tensor(theirs["embeds"])
    close(rows(embeds, counts, drop_last=scaled), rows(expected, counts, drop_last=scaled))
    (embeds * probe(counts, embeds.shape[1])).sum().backward()
    close(frames.grad, theirs["hidden gradient"])
    close(weights.grad * mask(), theirs["alphas gradient"])


@pytest.mark.parametrize("kind", ["full", "depthwise"])
@pytest.mark.parametrize("mode", ["training", "inference"])
def test_predictors_equal_the_references_with_all_gradients(facts: Any, kind: str, mode: str):
    seed, theirs = facts["made with"]["seed"], facts["predictors"][f"{kind} {mode}"]
    predictor = CifPredictor(dim=DIM, kind=kind, tail=TAIL).eval()
    names = {"conv": "cif_conv1d", "output": "cif_output"}
    own = {f"{ours}.{leaf}": f"{their}.{leaf}" for ours, their in names.items() for leaf in LEAVES}
    weights = predictor_weights(kind, seed)
    predictor.load_state_dict({ours: weights[their] for ours, their in own.items()})

    frames = hidden(seed).requires_grad_()
    training = mode == "training"
    predicted = predictor(frames, lengths(), torch.tensor(NUM_TOKENS) if training else None)
    counts = predicted.counts
    assert counts.tolist() == theirs["counts"]
    expected = torch.tensor(theirs["embeds"])
    close(
        rows(predicted.embeds, counts, drop_last=training),
        rows(expected, counts, drop_last=training),
    )
    loss = (predicted.embeds * probe(counts, predicted.embeds.shape[1])).sum()
    if training:
        close(predicted.total, theirs["total"])
        factor = torch.tensor(NUM_TOKENS) / predicted.total  # theirs are scaled in place
        close(predicted.alphas * factor[:, None], theirs["alphas"])
        loss = loss + (predicted.total * torch.tensor([1.0, -0.5, 0.25])).sum()
    else:
        # Theirs hold the tail already: at the first padded frame, or one frame behind the last.
        tail = TAIL * (torch.arange(max(LENS)) == lengths()[:, None])
        close(predicted.alphas + tail, theirs["alphas"])
    loss.backward()
    # Theirs reads the padding, so a gradient goes there, too.
    close(frames.grad, torch.tensor(theirs["hidden gradient"]) * mask()[..., None])
    for ours, their in own.items():
        close(predictor.get_parameter(ours).grad, theirs["gradients"][their])


def test_the_reference_loses_the_last_token_of_a_quarter_of_scaled_utterances(facts: Any):
    lost = facts["lost"]
    assert 0.15 < sum(lost) / len(lost) < 0.35
    for weights, L in many(facts["made with"]["seed"]):
        ones = torch.ones(*weights.shape, 1)
        embeds, counts = integrate_and_fire(ones, weights, num_tokens=torch.tensor([L]))
        assert counts.tolist() == [L]
        close(embeds, torch.ones(1, L, 1), 2e-5)


def test_two_tokens_in_one_frame_are_wrong_in_both_of_the_references_forms(facts: Any):
    expected = torch.tensor([[[0.5, 0.5, 0], [0, 1, 0], [0, 0.5, 0.5]]])
    close(overlap_weights(TWO_IN_ONE, 3), expected)
    for ours in OURS.values():
        embeds, counts = ours(torch.eye(3)[None], TWO_IN_ONE, tail=0.0)
        assert counts.tolist() == [3]
        close(embeds, expected)
    theirs = facts["two in one"]
    assert min(min(row) for row in theirs["cif"]["weights"][0]) == pytest.approx(-0.5)
    merged = torch.tensor(theirs["cif_v1"]["weights"][0])
    close(merged.sum(dim=1), [2.0, 1.0, 0.0])


def test_a_last_utterance_without_tokens_breaks_the_references_parallel_form(facts: Any):
    theirs = facts["silent last"]
    assert theirs["cif_v1"] == {"error": "IndexError"}
    embeds, counts = integrate_and_fire(torch.eye(3).repeat(2, 1, 1), SILENT_LAST, tail=0.0)
    assert counts.tolist() == [2, 0]
    close(embeds, theirs["cif"]["weights"])


def test_one_token_is_right_in_all_forms(facts: Any):
    embeds, counts = integrate_and_fire(torch.eye(3)[None], ONE_TOKEN, tail=0.0)
    assert counts.tolist() == [1]
    for theirs in facts["one token"].values():
        close(embeds, theirs["weights"])


def test_all_zero_weights_break_the_reference_in_training(facts: Any):
    assert facts["without weight"] in ("RuntimeError", "NaN")
    predictor = CifPredictor(dim=DIM, kind="full", tail=TAIL, noise_threshold=2.0)
    predicted = predictor(hidden(0), lengths(), torch.tensor(NUM_TOKENS))
    assert not predicted.embeds.any()
    assert predicted.total.tolist() == [0, 0, 0]


@pytest.mark.parametrize("kind", ["full", "depthwise"])
def test_padding_changes_the_references_weights_and_not_ours(facts: Any, kind: str):
    assert facts["leak"][kind] > 1e-3
    predictor = CifPredictor(dim=DIM, kind=kind, tail=TAIL).eval()
    filled = hidden(0).masked_fill(~mask()[..., None], 3.0)
    assert torch.equal(predictor(filled, lengths()).total, predictor(hidden(0), lengths()).total)
