"""Four implementations, one result: against PyTorch's kernel and the formula, both ways."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from maquette.nn import attention as module
from maquette.nn.attention import ATTENTIONS, attention, fused_for_mps
from maquette.nn.attention_choice import AttentionChoice

CASES = [("explicit", None), ("fused", None), ("auto", None)]
CASES += [(impl, budget) for impl in ("sliced", "chunked") for budget in (None, 4, 120, 800)]


def inputs(B=2, H=3, T=7, S=7, D=8, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(B, H, n, D, generator=generator).to(dtype) for n in (T, S, S)]


def make_mask(kind, shape, *, dtype=torch.float32, seed=0, empty_row=True):
    if kind is None:
        return None
    generator = torch.Generator().manual_seed(seed)
    visible = torch.rand(shape, generator=generator) > 0.4
    if empty_row and len(shape) > 1:
        visible[..., shape[-2] // 2, :] = False
    if kind == "bool":
        return visible
    return torch.randn(shape, generator=generator).to(dtype).masked_fill(~visible, -torch.inf)


def run(impl, tensors, mask=None, **options):
    """Return the output and the gradients of q, k, v and of a float mask."""
    tensors = [x.detach().clone().requires_grad_() for x in tensors]
    if mask is not None and mask.is_floating_point():
        mask = mask.clone().requires_grad_()
    out = attention(*tensors, mask=mask, impl=impl, **options)
    wanted = [x for x in (*tensors, mask) if x is not None and x.requires_grad]
    return [out.detach(), *torch.autograd.grad(out.float().sin().sum(), wanted)]


def assert_same(found, wanted, tolerance):
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def by_hand(q, k, v, mask=None, is_causal=False):
    """The formula row by row, in a loop that knows no tricks."""
    out = torch.zeros_like(q)
    for b, h, t in product(*map(range, q.shape[:3])):
        last = min(t + 1, k.shape[2]) if is_causal else k.shape[2]
        seen = [s for s in range(last) if mask is None or mask[b, h, t, s]]
        if seen:
            scores = torch.stack([q[b, h, t] @ k[b, h, s] for s in seen]) / q.shape[-1] ** 0.5
            out[b, h, t] = scores.exp() / scores.exp().sum() @ v[b, h, seen]
    return out


@pytest.mark.parametrize(("impl", "budget"), CASES)
@pytest.mark.parametrize("is_causal", [False, True])
def test_equals_the_formula_by_hand(impl, budget, is_causal):
    q, k, v = inputs(T=5, S=6)
    mask = make_mask("bool", (2, 3, 5, 6))
    for m in (None, mask):
        found = attention(q, k, v, mask=m, is_causal=is_causal, impl=impl, budget=budget)
        torch.testing.assert_close(found, by_hand(q, k, v, m, is_causal), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("impl", "budget"), CASES)
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("kind", [None, "bool", "float"])
@pytest.mark.parametrize(("T", "S"), [(7, 7), (5, 9), (9, 5), (1, 1)])
def test_forward_and_backward_agree(impl, budget, is_causal, kind, T, S):
    tensors = inputs(T=T, S=S)
    mask = make_mask(kind, (2, 1, T, S))
    found = run(impl, tensors, mask, is_causal=is_causal, budget=budget)
    wanted = run("explicit", tensors, mask, is_causal=is_causal)
    assert_same(found, wanted, 1e-5)


@pytest.mark.parametrize("impl", ATTENTIONS)
def test_explicit_agrees_with_pytorch_itself(impl):
    q, k, v = (x.requires_grad_() for x in inputs(T=20, S=20))
    wanted = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    grads = torch.autograd.grad(wanted.sin().sum(), (q, k, v))
    assert_same(run(impl, (q, k, v), is_causal=True), [wanted, *grads], 1e-5)


@given(
    B=st.integers(1, 3),
    H=st.integers(1, 3),
    T=st.integers(1, 12),
    S=st.integers(1, 12),
    kind=st.sampled_from([None, "bool", "float"]),
    shape=st.tuples(*[st.booleans()] * 4),
    ndim=st.integers(1, 4),
    is_causal=st.booleans(),
    budget=st.integers(1, 2000),
    impl=st.sampled_from(["fused", "sliced", "chunked"]),
)
@settings(max_examples=60)
def test_any_shape_mask_and_budget(B, H, T, S, kind, shape, ndim, is_causal, budget, impl):
    tensors = inputs(B, H, T, S, 4, torch.float64)
    sizes = [n if whole else 1 for n, whole in zip((B, H, T, S), shape, strict=True)]
    mask = make_mask(kind, sizes[-ndim:], dtype=torch.float64, empty_row=B > 1)
    found = run(impl, tensors, mask, is_causal=is_causal, budget=budget)
    assert_same(found, run("explicit", tensors, mask, is_causal=is_causal), 1e-10)


@pytest.mark.parametrize("impl", ATTENTIONS)
@pytest.mark.parametrize(("B", "T", "S"), [(0, 3, 3), (2, 0, 3), (2, 3, 0)])
def test_empty_inputs(impl, B, T, S):
    found = run(impl, inputs(B=B, T=T, S=S))
    assert found[0].shape == (B, 3, T, 8)
    assert all(float(x.abs().sum()) == 0 for x in found)


@pytest.mark.parametrize("impl", ATTENTIONS)
@pytest.mark.parametrize("kind", ["bool", "float"])
def test_a_query_without_keys_gets_zero_and_passes_no_gradient(impl, kind):
    tensors = inputs()
    mask = make_mask(kind, (1, 1, 7, 7))
    out, grad_q, *others = run(impl, tensors, mask)
    assert (out[:, :, 3] == 0).all()
    assert (grad_q[:, :, 3] == 0).all()
    assert all(x.isfinite().all() for x in others)


@pytest.mark.parametrize("impl", ATTENTIONS)
def test_padding_is_never_read(impl):
    q, k, v = inputs(S=9)
    visible = torch.arange(9) < 6
    k[:, :, 6:], v[:, :, 6:] = 1e4, 1e4
    found = run(impl, (q, k, v), visible)
    wanted = run(impl, (q, k[:, :, :6], v[:, :, :6]))
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-5, atol=1e-5)
    assert (found[2][:, :, 6:] == 0).all()


@pytest.mark.parametrize("impl", ATTENTIONS)
def test_huge_scores_stay_finite(impl):
    found = run(impl, [x * 1e4 for x in inputs()], is_causal=True)
    assert all(x.isfinite().all() for x in found)


@pytest.mark.parametrize("impl", ATTENTIONS)
def test_inputs_that_are_not_contiguous(impl):
    heads_last = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in inputs()]
    assert not heads_last[0].is_contiguous()
    found = [attention(*x, impl=impl, is_causal=True) for x in (inputs(), heads_last)]
    torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("impl", ATTENTIONS)
def test_half_precision_is_as_good_as_pytorchs(impl):
    tensors = inputs(T=40, S=40, D=32, dtype=torch.bfloat16)
    exact = run("explicit", [x.double() for x in tensors], is_causal=True)

    def worst(impl):
        found = run(impl, tensors, is_causal=True)
        assert all(x.dtype == torch.bfloat16 for x in found)
        return max(float((a.double() - b).abs().max()) for a, b in zip(found, exact, strict=True))

    assert worst(impl) <= 2 * worst("fused")


@pytest.mark.parametrize("impl", ATTENTIONS)
def test_autocast_is_obeyed_by_all(impl):
    tensors = inputs()
    mask = make_mask("float", (7, 7))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = run(impl, tensors, mask)
        assert found[0].dtype == torch.bfloat16
        assert attention(*(x.double() for x in tensors), impl=impl).dtype == torch.float64
    wanted = run("explicit", tensors, mask)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a.float(), b, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("impl", ["sliced", "chunked"])
@pytest.mark.parametrize("is_causal", [False, True])
def test_gradients_by_differences(impl, is_causal):
    q, k, v = (x.requires_grad_() for x in inputs(B=1, H=2, T=3, S=4, D=2, dtype=torch.float64))
    mask = make_mask("float", (1, 2, 3, 1), dtype=torch.float64, empty_row=False)
    mask = mask.masked_fill(mask == -torch.inf, 0).requires_grad_()

    def function(q, k, v, mask):
        torch.manual_seed(1)
        return attention(
            q, k, v, mask=mask, impl=impl, is_causal=is_causal, budget=50, dropout_p=0.3
        )

    assert torch.autograd.gradcheck(function, (q, k, v, mask))


@pytest.mark.parametrize("impl", ["explicit", "sliced", "chunked"])
def test_dropout_scales_what_it_keeps(impl):
    q, k, _ = inputs(B=4, H=4, T=32, S=64)
    torch.manual_seed(0)
    # With all values 1 the output is the sum of the weights that stay.
    out = attention(q * 0, k, torch.ones_like(k), impl=impl, dropout_p=0.25, budget=4000)
    share = float(out.mean())
    assert share == pytest.approx(1, abs=0.01)
    factor = 64 * 0.75 * out[..., 0]  # a count, equal weights being 1/64 each
    torch.testing.assert_close(factor, factor.round(), rtol=0, atol=1e-3)
    assert factor.round().unique().numel() > 5


@pytest.mark.parametrize("impl", ATTENTIONS)
def test_dropout_is_replayed_by_activation_checkpointing(impl):
    tensors = inputs()

    def grads(wrapped):
        xs = [x.clone().requires_grad_() for x in tensors]
        torch.manual_seed(3)
        out = wrapped(lambda *x: attention(*x, impl=impl, dropout_p=0.5, budget=300), *xs)
        torch.rand(5)  # something else draws before the backward pass
        out.sin().sum().backward()
        return [x.grad for x in xs]

    plain = grads(lambda function, *xs: function(*xs))
    again = grads(lambda function, *xs: checkpoint(function, *xs, use_reentrant=False))
    assert_same(again, plain, 1e-6)


class Largest(TorchDispatchMode):
    """Remembers the most elements that any operation returned."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, (tuple, list)) else [out]:
            # A view takes no memory of its own.
            if isinstance(x, torch.Tensor) and not func.is_view:
                self.numel = max(self.numel, x.numel())
        return out


@pytest.mark.parametrize("impl", ["sliced", "chunked"])
@pytest.mark.parametrize("is_causal", [False, True])
def test_scores_stay_within_the_budget(impl, is_causal):
    tensors = inputs(B=1, H=2, T=128, S=128, D=4)
    with Largest() as whole:
        run("explicit", tensors, is_causal=is_causal)
    assert whole.numel == 2 * 128 * 128
    with Largest() as parts:
        run(impl, tensors, is_causal=is_causal, budget=4 * 512)
    # The inputs themselves have 1024 elements.
    assert parts.numel <= 2 * 128 * 4


def test_a_mask_is_bounded_too():
    """A small mask stays small: chunks look at views of it."""
    tensors = inputs(B=1, H=2, T=128, S=128, D=4)
    with Largest() as parts:
        run("chunked", tensors, torch.arange(128) < 100, budget=4 * 512)
    assert parts.numel <= 2 * 128 * 4


@pytest.mark.parametrize("impl", ["sliced", "chunked"])
def test_no_second_gradient(impl):
    q, k, v = (x.requires_grad_() for x in inputs())
    (grad,) = torch.autograd.grad(
        attention(q, k, v, impl=impl).square().sum(), q, create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize("kind", [None, "bool", "float"])
@pytest.mark.parametrize("is_causal", [False, True])
def test_what_mps_gets_has_finite_masks_and_contiguous_inputs(kind, is_causal, monkeypatch):
    """The arithmetic of the MPS path on the CPU, and what reaches the kernel."""
    seen = {}
    kernel = F.scaled_dot_product_attention

    def spy(q, k, v, attn_mask=None, **options):
        assert q.is_contiguous()
        assert k.is_contiguous()
        assert v.is_contiguous()
        assert attn_mask is None or attn_mask.isfinite().all()
        seen["mask"] = attn_mask
        return kernel(q, k, v, attn_mask=attn_mask, **options)

    monkeypatch.setattr(module.F, "scaled_dot_product_attention", spy)
    q, k, v = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in inputs())
    mask = make_mask(kind, (2, 1, 7, 7))
    causal_kernel = is_causal and mask is None
    if mask is not None and is_causal:
        later = torch.ones(7, 7, dtype=torch.bool).triu(1)
        mask = mask.masked_fill(later, False if kind == "bool" else -torch.inf)
    found = fused_for_mps(q, k, v, mask, causal_kernel, 0.0)
    wanted = attention(q, k, v, mask=mask, is_causal=causal_kernel, impl="explicit")
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    if kind is not None:
        assert float(seen["mask"].min()) == -1e9


def test_half_precision_masks_of_mps_are_finite_in_float16():
    q, k, v = inputs(dtype=torch.float16)
    found = fused_for_mps(q, k, v, make_mask("bool", (1, 1, 7, 7)), False, 0.0)
    assert found.isfinite().all()
    assert (found[:, :, 3] == 0).all()


def test_fused_takes_its_mps_path_there(monkeypatch):
    class OnMps:
        """Enough of a tensor to be sent the right way."""

        device = torch.device("mps")
        shape = (1, 1, 2, 2)

    monkeypatch.setattr(module, "fused_for_mps", lambda *arguments: arguments)
    x = OnMps()
    assert module.fused_attention(x, x, x, None, True, 0.0) == (x, x, x, None, True, 0.0)


def test_auto_asks_with_what_is_there(monkeypatch):
    asked = {}

    def choose(**facts):
        asked.update(facts)
        return AttentionChoice("chunked", "a test")

    monkeypatch.setattr(module, "choose_attention", choose)
    q, k, v = inputs(T=5, S=9)
    attention(q.requires_grad_(), k, v, impl="auto", budget=12345)
    assert asked == {
        "batch": 2,
        "heads": 3,
        "queries": 5,
        "keys": 9,
        "head_dim": 8,
        "dtype": torch.float32,
        "device_type": "cpu",
        "free_bytes": 12345,
        "needs_grad": True,
    }


def test_errors_name_what_is_wrong():
    q, k, v = inputs()
    with pytest.raises(ValueError, match=r"Unknown attention 'flash'\. Available: auto, explicit"):
        attention(q, k, v, impl="flash")
    with pytest.raises(ValueError, match=r"q \(2, 3, 7, 8\), k \(2, 3, 7, 4\) and v .*expected"):
        attention(q, k[..., :4], v[..., :4])
    with pytest.raises(ValueError, match=r"expected \(B, H, T, D\)"):
        attention(q[0], k[0], v[0])
    with pytest.raises(ValueError, match=r"mask is \(7, 6\), expected what broadcasts to .*7, 7\)"):
        attention(q, k, v, mask=torch.ones(7, 6, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"mask is torch.int64, expected torch.bool"):
        attention(q, k, v, mask=torch.ones(7, 7, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"dropout_p is 1.0, expected a share in \[0, 1\)"):
        attention(q, k, v, dropout_p=1.0)
    with pytest.raises(ValueError, match="budget is 0 bytes, expected at least 1"):
        attention(q, k, v, impl="sliced", budget=0)
