"""Every loss against PyTorch's own, forward and backward; sums, weights, extremes, messages."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from maquette.nn.losses import CLASS_LOSSES, LOSSES, summed_loss

CLASSES = 5
SMOOTHED = [(name, 0.0) for name in LOSSES] + [("cross_entropy", 0.2)]


def problem(name: str, size: int = 7, *, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(size)
    if name in CLASS_LOSSES:
        logits = scale * torch.randn(size, CLASSES, generator=generator, dtype=torch.float64)
        return logits, torch.randint(CLASSES, (size,), generator=generator)
    outputs, targets = scale * torch.randn(2, size, generator=generator, dtype=torch.float64)
    return outputs.clone(), targets.clone()


def reference(name: str, outputs: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    if name == "cross_entropy":
        return F.cross_entropy(outputs, targets, reduction="none", label_smoothing=smoothing)
    if name == "focal":  # the paper's formula on probabilities, without any of our shortcuts
        p = outputs.softmax(dim=1)[torch.arange(len(targets)), targets]
        return -((1 - p) ** 2) * p.log()
    function: Callable[..., Tensor] = {
        "mse": F.mse_loss,
        "mae": F.l1_loss,
        "huber": F.huber_loss,
    }[name]
    return function(outputs, targets, reduction="none")


def value_and_gradient(function: Callable[[Tensor], Tensor], at: Tensor) -> tuple[Tensor, Tensor]:
    at = at.detach().clone().requires_grad_()
    value = function(at)
    (gradient,) = torch.autograd.grad(value.sum(), at)
    return value.detach(), gradient


@pytest.mark.parametrize(("name", "smoothing"), SMOOTHED)
def test_each_loss_equals_the_reference_forward_and_backward(name: str, smoothing: float) -> None:
    outputs, targets = problem(name)
    options = {"label_smoothing": smoothing} if smoothing else {}

    ours = value_and_gradient(lambda x: LOSSES[name](x, targets, **options), outputs)
    theirs = value_and_gradient(lambda x: reference(name, x, targets, smoothing), outputs)

    assert ours[0].shape == (len(targets),)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "smoothing"), SMOOTHED)
def test_the_fused_sum_equals_the_written_out_sum(name: str, smoothing: float) -> None:
    outputs, targets = problem(name, 64)
    outputs, targets = outputs.float(), targets if name in CLASS_LOSSES else targets.float()
    ones = torch.ones(64)

    def fused(x: Tensor) -> Tensor:
        return summed_loss(name, x, targets, label_smoothing=smoothing)[0]

    def written_out(x: Tensor) -> Tensor:
        return summed_loss(name, x, targets, weights=ones, label_smoothing=smoothing)[0]

    torch.testing.assert_close(
        value_and_gradient(fused, outputs),
        value_and_gradient(written_out, outputs),
        rtol=1e-6,
        atol=1e-6,
    )


@pytest.mark.parametrize("name", LOSSES)
def test_weights_scale_samples_and_count_is_their_sum(name: str) -> None:
    outputs, targets = problem(name)
    weights = torch.tensor([0.0, 1, 2, 0.5, 3, 1, 1], dtype=torch.float64)

    total, count = summed_loss(name, outputs, targets, weights=weights)

    torch.testing.assert_close(total, (reference(name, outputs, targets) * weights).sum())
    assert float(count) == 8.5
    assert summed_loss(name, outputs, targets)[1] == 7.0


@pytest.mark.parametrize("name", LOSSES)
def test_order_of_samples_does_not_matter_and_one_sample_is_enough(name: str) -> None:
    outputs, targets = problem(name)
    flipped = LOSSES[name](outputs.flip(0), targets.flip(0)).flip(0)

    torch.testing.assert_close(flipped, LOSSES[name](outputs, targets))
    torch.testing.assert_close(LOSSES[name](outputs[:1], targets[:1]), flipped[:1])


@pytest.mark.parametrize("name", LOSSES)
def test_an_empty_batch_sums_to_zero_over_zero(name: str) -> None:
    outputs, targets = problem(name)
    total, count = summed_loss(name, outputs[:0], targets[:0])
    assert (total.item(), count) == (0.0, 0.0)


@pytest.mark.parametrize("name", CLASS_LOSSES)
def test_huge_logits_stay_finite(name: str) -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0], [-3e38, 0.0, 1.0], [88.0, 89.0, 90.0]])
    targets = torch.tensor([0, 1, 2])

    value, gradient = value_and_gradient(lambda x: LOSSES[name](x, targets), logits)

    assert value.isfinite().all()
    assert gradient.isfinite().all()
    wrong, _ = value_and_gradient(lambda x: LOSSES[name](x, torch.tensor([1, 1, 2])), logits)
    torch.testing.assert_close(wrong[0], torch.tensor(2e4))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_outputs_give_a_float32_loss(name: str, dtype: torch.dtype) -> None:
    outputs, targets = problem(name)
    targets = targets if name in CLASS_LOSSES else targets.float()

    total, _ = summed_loss(name, outputs.to(dtype), targets)

    assert total.dtype == torch.float32
    expected, _ = summed_loss(name, outputs.to(dtype).float(), targets)
    torch.testing.assert_close(total, expected)


def test_focal_downweights_easy_samples_and_gamma_zero_would_be_cross_entropy() -> None:
    logits, targets = problem("focal")
    plain = LOSSES["cross_entropy"](logits, targets)
    assert (LOSSES["focal"](logits, targets) <= plain).all()
    torch.testing.assert_close(LOSSES["focal"](logits, targets, gamma=0.0), plain)


def test_loss_at_uniform_logits_is_log_of_the_number_of_classes() -> None:
    loss = LOSSES["cross_entropy"](torch.zeros(3, 10), torch.tensor([0, 4, 9]))
    torch.testing.assert_close(loss, torch.full((3,), 10.0).log())


def test_unknown_name_lists_the_losses() -> None:
    with pytest.raises(ValueError, match=r"Unknown loss 'mse2'\. Available: cross_entropy, focal"):
        summed_loss("mse2", torch.zeros(1), torch.zeros(1))


def test_outputs_that_would_broadcast_are_refused() -> None:
    with pytest.raises(
        ValueError,
        match=r"'mse' got outputs \(4, 1\) and targets \(4,\), expected \(B,\) and \(B,\)",
    ):
        summed_loss("mse", torch.zeros(4, 1), torch.zeros(4))
    with pytest.raises(ValueError, match=r"expected \(B, N\) and \(B,\)"):
        summed_loss("cross_entropy", torch.zeros(4), torch.zeros(4, dtype=torch.int64))


def test_smoothing_without_cross_entropy_is_refused() -> None:
    with pytest.raises(ValueError, match=r"label_smoothing is 0\.1, which the loss 'focal'"):
        summed_loss("focal", *problem("focal"), label_smoothing=0.1)
