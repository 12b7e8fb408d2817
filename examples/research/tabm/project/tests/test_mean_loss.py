import math

import torch
from torch.nn import functional

from training.loss import mean_loss


def test_it_is_the_mean_of_the_members_losses_and_not_the_loss_of_their_mean():
    torch.manual_seed(0)
    logits, y = torch.randn(6, 4, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    each = torch.stack([functional.cross_entropy(logits[:, i], y) for i in range(4)])
    torch.testing.assert_close(mean_loss(logits, y), each.mean())
    of_mean = functional.nll_loss(logits.softmax(dim=-1).mean(dim=1).log(), y)
    assert mean_loss(logits, y) > of_mean + 0.01


def test_for_one_member_it_is_the_cross_entropy():
    torch.manual_seed(0)
    logits, y = torch.randn(6, 1, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    torch.testing.assert_close(mean_loss(logits, y), functional.cross_entropy(logits[:, 0], y))


def test_equal_logits_cost_the_logarithm_of_the_classes():
    assert math.isclose(
        mean_loss(torch.zeros(2, 4, 5), torch.tensor([0, 3])), math.log(5), rel_tol=1e-6
    )
