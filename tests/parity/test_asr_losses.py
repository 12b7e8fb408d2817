"""paraformer_asr's losses against FunASR's and PyTorch's, values and gradients.

Stored numbers run in the ordinary suite; with `-m peers` numbers made just now from another seed.
Ours are sums, to be divided by a count of the whole step; the test divides them as the reference
does: FunASR's cross-entropy by the utterances or, `length_normalized_loss`, by the tokens, and its
MAE by the utterances or by the sum of lengths. CTC is compared utterance by utterance; one that has
too few frames is 0 in ours and, with `zero_infinity`, in PyTorch's.

PyTorch's own cross-entropy with label smoothing is another one (e / V for every token, and without
the constant); the difference is asserted.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from asr_losses_cases import (
    LENS,
    SMOOTHINGS,
    TOKEN_LENS,
    VOCABULARY,
    lens,
    logits,
    observe,
    token_lens,
    tokens,
    total,
)
from facts import read_facts
from paraformer_asr.ctc import ctc_loss, is_impossible
from paraformer_asr.losses import label_smoothed_ce, quantity_mae
from torch import Tensor

LIVE_SEED = 1
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5}
DENOMINATOR = {"length": sum(TOKEN_LENS), "utterances": len(TOKEN_LENS)}


@pytest.fixture(scope="module", params=["golden", pytest.param("live", marks=pytest.mark.peers)])
def facts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the references computed: "golden" from the stored file, "live" just now."""
    folder = tmp_path_factory.mktemp("live")
    return read_facts(request.param, "asr_losses", folder, seed=LIVE_SEED)


def check(found: dict[str, Any], expected: dict[str, Any], tolerance: float) -> None:
    """Losses agree relatively, gradients (all of them of order one or below) absolutely."""
    for name, relative in (("loss", tolerance), ("gradient", 0.0)):
        given = [torch.tensor(x[name], dtype=torch.float64) for x in (found, expected)]
        torch.testing.assert_close(*given, atol=tolerance, rtol=relative)


@pytest.mark.parametrize("by", list(DENOMINATOR))
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=str)
def test_label_smoothed_cross_entropy(
    facts: Any, smoothing: float, by: str, dtype: torch.dtype
) -> None:
    seed = facts["made with"]["seed"]
    given = logits("decoder", seed).to(dtype).requires_grad_()
    ours = label_smoothed_ce(given, tokens(seed), token_lens(), smoothing) / DENOMINATOR[by]
    check(observe(ours, given), facts["ce"][f"{smoothing} by {by}"], TOLERANCES[dtype])


def test_pytorchs_label_smoothing_is_another_one(facts: Any) -> None:
    seed = facts["made with"]["seed"]
    given = logits("decoder", seed)
    theirs = F.cross_entropy(
        given.flatten(0, 1),
        tokens(seed).flatten(),
        ignore_index=-1,
        label_smoothing=0.4,
        reduction="sum",
    )
    ours = label_smoothed_ce(given, tokens(seed), token_lens(), 0.4)
    assert float(abs(ours - theirs)) > 1


@pytest.mark.parametrize("by", list(DENOMINATOR))
@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=str)
def test_error_in_the_number_of_tokens(facts: Any, by: str, dtype: torch.dtype) -> None:
    given = total(facts["made with"]["seed"]).to(dtype).requires_grad_()
    ours = quantity_mae(given, token_lens()) / DENOMINATOR[by]
    check(observe(ours, given), facts["quantity"][f"by {by}"], TOLERANCES[dtype])


@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=str)
def test_ctc(facts: Any, dtype: torch.dtype) -> None:
    seed = facts["made with"]["seed"]
    given = logits("ctc", seed).to(dtype).requires_grad_()
    ours = ctc_loss(given, lens(), tokens(seed), token_lens())
    check(observe(ours, given), facts["ctc"], TOLERANCES[dtype])
    assert is_impossible(lens(), tokens(seed), token_lens()).tolist() == [*[False] * 5, True]
    assert ours[5].item() == facts["ctc"]["loss"][5] == 0


def torch_ctc(given: Tensor, lengths: Tensor, wanted: Tensor, wanted_lens: Tensor) -> Tensor:
    log_probs = given.log_softmax(dim=2).transpose(0, 1)
    return F.ctc_loss(log_probs, wanted, lengths, wanted_lens, reduction="none", zero_infinity=True)


@pytest.mark.parametrize("seed", range(20))
def test_ctc_of_random_batches_is_the_installed_pytorchs(seed: int) -> None:
    """Sizes, lengths and repeats at random; impossible ones and empty ones are among them."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high + 1, shape, generator=generator)

    B, T, K, V = (int(draw(*bounds)) for bounds in ((1, 9), (1, 60), (1, 20), (2, 30)))
    given = 3 * torch.randn(B, T, V, generator=generator, dtype=torch.float64)
    batch = (draw(1, T, B), draw(1, min(V - 1, 3), B, K), draw(0, K, B))
    expected = None
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-5)):
        leaf = given.to(dtype).requires_grad_()
        if expected is None:
            expected = observe(torch_ctc(leaf, *batch), leaf)
        check(observe(ctc_loss(leaf, *batch), leaf), expected, tolerance)


def test_the_cases_hold_what_they_are_for() -> None:
    for seed in (0, LIVE_SEED):
        wanted = tokens(seed)
        assert (wanted[:, 1:] == wanted[:, :-1])[wanted[:, 1:] >= 0].sum() >= 5
        assert {int(v) for v in wanted.unique()} == {-1, 3, 4, 5}
        assert wanted.max() < VOCABULARY
    assert len(LENS) == len(TOKEN_LENS)
    assert 0 in TOKEN_LENS
