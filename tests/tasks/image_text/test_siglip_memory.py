"""SigLIP in blocks: never a matrix of all pairs in memory, and the same numbers as in one piece."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from maquette.tasks.image_text import loss_functions
from maquette.tasks.image_text.loss_functions import siglip


def features(size: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """Images and texts (size, 4), a scale and a bias; all want gradients."""
    images, texts = torch.randn(2, size, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    given = (images, texts, torch.tensor(1.5, dtype=dtype), torch.tensor(-3.0, dtype=dtype))
    return tuple(each.detach().clone().requires_grad_() for each in given)


class Largest(TorchDispatchMode):
    """Remembers how many elements the largest result of any operation had."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        results = func(*args, **(kwargs or {}))
        for each in torch.utils._pytree.tree_leaves(results):
            if isinstance(each, Tensor):
                self.elements = max(self.elements, each.numel())
        return results


def siglip_memory(size: int, chunk: int | None) -> tuple[int, int]:
    """Elements of the largest tensor, forward and backward, and of all saved in between."""
    i, t, scale, bias = features(size, torch.float32)
    saved: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        saved[tensor.data_ptr()] = tensor.numel()
        return tensor

    with Largest() as largest:
        with saved_tensors_hooks(count, lambda tensor: tensor):
            loss = siglip(i, t, scale, logit_bias=bias, chunk=chunk)
        loss.backward()
    assert i.grad is not None
    return largest.elements, sum(saved.values())


def test_siglip_in_chunks_never_holds_a_matrix_of_all_pairs():
    size, chunk = 256, 8
    largest, saved = siglip_memory(size, chunk)
    assert largest <= chunk * size
    assert saved < size * size / 4
    dense_largest, dense_saved = siglip_memory(size, None)
    assert dense_largest == size * size
    assert dense_saved >= size * size, "the measure sees what it should"


def test_siglip_chooses_chunks_by_itself_and_they_change_nothing(monkeypatch):
    i, t, scale, bias = features(50)
    whole = siglip(i, t, scale, logit_bias=bias)
    monkeypatch.setattr(loss_functions, "_BLOCK", 200)  # 4 rows of 50, and 2 in the last block
    assert siglip_memory(50, None)[0] <= 200
    blocks = siglip(i, t, scale, logit_bias=bias)
    torch.testing.assert_close(blocks, whole, rtol=1e-12, atol=1e-12)
    for a, b in zip(
        torch.autograd.grad(whole, (i, t, scale, bias)),
        torch.autograd.grad(blocks, (i, t, scale, bias)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_siglip_in_chunks_under_no_grad_and_autocast():
    i, t, scale, bias = features(9, torch.float32)
    expected = siglip(i, t, scale, logit_bias=bias)
    with torch.no_grad():
        unlearned = siglip(i, t, scale, logit_bias=bias, chunk=2)
    torch.testing.assert_close(unlearned, expected.detach())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        chunked = siglip(i, t, scale, logit_bias=bias, chunk=2)
    for a, b in zip(
        torch.autograd.grad(expected, (i, t)), torch.autograd.grad(chunked, (i, t)), strict=True
    ):
        torch.testing.assert_close(a, b)
