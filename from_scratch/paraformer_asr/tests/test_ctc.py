"""CTC: all paths written out, PyTorch's loss, hard and impossible alignments, padding."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from paraformer_asr.ctc import ctc_loss, is_impossible
from paraformer_asr.errors import AsrError

Case = tuple[Tensor, Tensor, Tensor, Tensor]


def random_case(seed: int, B: int = 6, T: int = 30, K: int = 8, V: int = 7) -> Case:
    """Logits (B, T, V) float64, lens, tokens (B, K) with many repeats, token_lens 0 to K."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(B, T, V, generator=generator, dtype=torch.float64)
    lens = torch.randint(2 * K, T + 1, (B,), generator=generator)
    tokens = torch.randint(1, min(V, 4), (B, K), generator=generator)
    token_lens = torch.randint(0, K + 1, (B,), generator=generator)
    token_lens[0], token_lens[1] = K, 0
    lens[0] = T
    return logits, lens, tokens, token_lens


def with_gradient(loss, logits: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
    """Losses, and the gradient of their sum weighted 1, 2, 3, ..."""
    logits = logits.clone().requires_grad_()
    losses = loss(logits, *given)
    (losses * torch.arange(1, len(losses) + 1)).sum().backward()
    assert logits.grad is not None
    return losses.detach(), logits.grad


def torch_loss(logits: Tensor, lens: Tensor, tokens: Tensor, token_lens: Tensor) -> Tensor:
    log_probs = logits.log_softmax(dim=2).transpose(0, 1)
    return F.ctc_loss(log_probs, tokens, lens, token_lens, reduction="none", zero_infinity=True)


def all_paths(logits: Tensor, lens: Tensor, tokens: Tensor, token_lens: Tensor) -> Tensor:
    """The definition: add up the probability of every sequence of labels that spells the tokens."""
    losses = []
    for x, T, wanted, K in zip(logits, lens, tokens, token_lens, strict=True):
        y = x[:T].softmax(dim=1)
        p = torch.zeros((), dtype=x.dtype)
        for path in itertools.product(range(y.shape[1]), repeat=int(T)):
            spelled = [v for v, _ in itertools.groupby(path) if v != 0]
            if spelled == wanted[:K].tolist():
                p = p + y[range(int(T)), path].prod()
        losses.append(-p.log())
    return torch.stack(losses)


def test_two_uniform_frames_and_one_token_by_hand():
    logits = torch.zeros(1, 2, 2)  # of the paths aa, a-, -a, -- the first three spell "a"
    loss, gradient = with_gradient(ctc_loss, logits, *map(torch.tensor, ([2], [[1]], [1])))
    torch.testing.assert_close(loss, torch.tensor([math.log(4 / 3)]))
    # The token stands in each frame in two of three paths.
    torch.testing.assert_close(gradient[0], torch.tensor([[1 / 2 - 1 / 3, 1 / 2 - 2 / 3]] * 2))


def test_value_and_gradient_are_those_of_all_paths():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 5, 3, generator=generator, dtype=torch.float64)
    lens, token_lens = torch.tensor([5, 4, 5, 3]), torch.tensor([2, 1, 3, 0])
    tokens = torch.tensor([[1, 1, 2], [2, 1, 1], [2, 1, 1], [1, 1, 1]])
    given = (logits, lens, tokens, token_lens)
    for ours, theirs in zip(
        with_gradient(ctc_loss, *given), with_gradient(all_paths, *given), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)


@pytest.mark.parametrize("seed", range(5))
def test_value_and_gradient_are_those_of_pytorch(seed: int):
    logits, *given = random_case(seed)
    loss, gradient = with_gradient(torch_loss, logits, *given)
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        ours = with_gradient(ctc_loss, logits.to(dtype), *given)
        assert ours[0].dtype == ours[1].dtype == dtype
        torch.testing.assert_close(ours[0].double(), loss, atol=tolerance, rtol=tolerance)
        torch.testing.assert_close(ours[1].double(), gradient, atol=tolerance, rtol=0)


def test_a_thousand_frames_in_float32_keep_their_gradient():
    """The sums of logarithms are several thousand, and it is their differences that count."""
    logits, *given = random_case(0, B=2, T=1000, K=40, V=7)
    _, gradient = with_gradient(torch_loss, logits, *given)
    _, ours = with_gradient(ctc_loss, logits.float(), *given)
    torch.testing.assert_close(ours.double(), gradient, atol=1e-5, rtol=0)


def test_gradients_pass_the_numerical_check():
    logits, lens, tokens, token_lens = random_case(1, B=3, T=7, K=3, V=4)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ctc_loss(x, lens, tokens, token_lens), (logits,))


def test_the_value_is_the_same_without_a_gradient():
    logits, *given = random_case(2)
    expected, _ = with_gradient(ctc_loss, logits, *given)
    torch.testing.assert_close(ctc_loss(logits, *given), expected, atol=1e-12, rtol=0)
    with torch.no_grad():
        found = ctc_loss(logits.requires_grad_(), *given)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_too_few_frames_give_zero_loss_and_gradient_and_are_counted():
    logits = random_case(3, B=4, T=6, K=3)[0]
    tokens = torch.tensor([[1, 2, 3], [1, 1, 1], [1, 1, 1], [2, 2, 1]])
    lens, token_lens = torch.tensor([2, 4, 5, 3]), torch.tensor([3, 3, 3, 3])
    # Equal neighbours need a blank between them: 111 takes five frames, 221 four.
    assert is_impossible(lens, tokens, token_lens).tolist() == [True, True, False, True]
    loss, gradient = with_gradient(ctc_loss, logits, lens, tokens, token_lens)
    assert loss[[0, 1, 3]].tolist() == [0, 0, 0]
    assert not gradient[[0, 1, 3]].any()
    alone, its_gradient = with_gradient(
        ctc_loss, logits[2:3], lens[2:3], tokens[2:3], token_lens[2:3]
    )
    torch.testing.assert_close(loss[2:3], alone)
    torch.testing.assert_close(gradient[2:3], 3 * its_gradient)


def test_repeats_in_the_padding_do_not_count():
    tokens = torch.tensor([[1, 2, 2, 2], [1, 1, 1, 1]])
    assert not is_impossible(torch.tensor([2, 1]), tokens, torch.tensor([2, 1])).any()


def test_no_tokens_is_all_blanks_and_no_frames_is_certain():
    logits = random_case(4, B=3, T=4, K=2)[0]
    tokens, token_lens = torch.full((3, 2), -1), torch.tensor([0, 0, 1])
    lens = torch.tensor([4, 0, 0])
    loss, gradient = with_gradient(ctc_loss, logits, lens, tokens.clamp_min(1), token_lens)
    torch.testing.assert_close(loss[0], -logits[0].log_softmax(dim=1)[:, 0].sum())
    assert loss[1:].tolist() == [0, 0]  # one token without a frame is impossible
    assert not gradient[1:].any()
    no_columns = ctc_loss(logits, lens, torch.zeros(3, 0, dtype=torch.int64), 0 * lens)
    torch.testing.assert_close(no_columns[0], loss[0])


def test_a_batch_without_frames_or_without_utterances_is_no_error():
    none = torch.zeros(2, dtype=torch.int64)
    loss = ctc_loss(
        torch.zeros(2, 0, 5, requires_grad=True), none, torch.ones(2, 3, dtype=torch.int64), none
    )
    assert loss.tolist() == [0, 0]
    empty = ctc_loss(torch.zeros(0, 4, 5), none[:0], torch.ones(0, 3, dtype=torch.int64), none[:0])
    assert empty.shape == (0,)


def test_padding_is_not_read_and_gets_no_gradient():
    logits, lens, tokens, token_lens = random_case(5)
    clean, gradient = with_gradient(ctc_loss, logits, lens, tokens, token_lens)
    poisoned, worse = logits.clone(), tokens.clone()
    for b in range(len(logits)):
        poisoned[b, lens[b] :] = float("nan")
        worse[b, token_lens[b] :] = -1
    loss, its_gradient = with_gradient(ctc_loss, poisoned, lens, worse, token_lens)
    torch.testing.assert_close(loss, clean)
    torch.testing.assert_close(its_gradient, gradient)
    for b in range(len(logits)):
        assert not its_gradient[b, lens[b] :].any()


def test_an_utterance_alone_gives_what_it_gives_in_a_batch():
    logits, lens, tokens, token_lens = random_case(6)
    together = ctc_loss(logits, lens, tokens, token_lens)
    for b in range(len(logits)):
        T, K = int(lens[b]), int(token_lens[b])
        alone = ctc_loss(
            logits[b : b + 1, :T], lens[b : b + 1], tokens[b : b + 1, :K], token_lens[b : b + 1]
        )
        torch.testing.assert_close(alone[0], together[b])


def test_what_a_network_is_wrongly_sure_of_stays_finite():
    logits = torch.zeros(1, 50, 4)
    logits[:, :, 3] = 1e4  # e^-500000 would be 0 in any floating-point number
    loss, gradient = with_gradient(ctc_loss, logits, *map(torch.tensor, ([50], [[1, 2]], [2])))
    torch.testing.assert_close(loss, torch.tensor([5e5]), rtol=1e-4, atol=0)
    assert torch.isfinite(gradient).all()
    torch.testing.assert_close(gradient[..., 3], torch.ones(1, 50))


def test_half_precision_logits_are_computed_in_float32():
    logits, *given = random_case(7)
    half = logits.bfloat16()
    loss, gradient = with_gradient(ctc_loss, half, *given)
    expected, its_gradient = with_gradient(ctc_loss, half.float(), *given)
    assert (loss.dtype, gradient.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient, its_gradient.bfloat16())


def test_another_blank_is_the_same_with_ids_exchanged():
    logits, lens, tokens, token_lens = random_case(8)
    order = [3, 1, 2, 0, *range(4, logits.shape[2])]  # exchanges 0 and 3
    exchanged = ctc_loss(
        logits[..., order], lens, tokens.where(tokens != 3, 0), token_lens, blank=3
    )
    torch.testing.assert_close(exchanged, ctc_loss(logits, lens, tokens, token_lens))


def test_descending_the_gradient_spells_the_tokens():
    logits = torch.zeros(1, 12, 5, requires_grad=True)
    wanted = torch.tensor([[2, 2, 4]])
    given = (torch.tensor([12]), wanted, torch.tensor([3]))
    optimizer = torch.optim.Adam([logits], lr=0.5)
    for _ in range(40):
        optimizer.zero_grad()
        loss = ctc_loss(logits, *given).sum()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.1
    heard = [v for v, _ in itertools.groupby(logits[0].argmax(dim=1).tolist()) if v != 0]
    assert heard == wanted[0].tolist()


def test_shapes_that_do_not_fit_are_named():
    logits, lens, tokens, token_lens = random_case(9)
    with pytest.raises(AsrError, match=r"tokens is \[5, 8\]: axis 0 should be B=6 as in logits"):
        ctc_loss(logits, lens, tokens[:5], token_lens)
    with pytest.raises(AsrError, match="a length of 30 is longer than the padded size 10"):
        ctc_loss(logits[:, :10], lens, tokens, token_lens)
