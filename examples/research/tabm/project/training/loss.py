"""What a network lowers."""

from torch import Tensor
from torch.nn import functional


def mean_loss(logits_BKC: Tensor, y_B: Tensor) -> Tensor:
    r"""Return the mean of the members' own cross-entropies, in nats.

    $$ L = \frac{1}{k} \sum_{i=1}^{k} \ell(y, z_i) $$
    $$ \ell(y, z) = -\log \mathrm{softmax}(z)_y $$

    Rows B, members K, classes C. The loss of the mean would excuse members that err.
    """
    members = logits_BKC.shape[1]
    return functional.cross_entropy(logits_BKC.flatten(0, 1), y_B.repeat_interleave(members))
