"""What a network lowers."""

from torch import Tensor
from torch.nn import functional


def mean_loss(logits_BKC: Tensor, y_B: Tensor) -> Tensor:
    r"""Return the mean of the members' own cross-entropies, in nats.

    $$ L = \frac{1}{k} \sum_{i=1}^{k} \ell(y, z_i) $$
    $$ \ell(y, z) = -\log \mathrm{softmax}(z)_y $$

    Logits are (B rows, K members, C classes), targets (B,) int64. The loss of the mean prediction
    would be another one: it excuses a member where the others are right.
    """
    members = logits_BKC.shape[1]
    return functional.cross_entropy(logits_BKC.flatten(0, 1), y_B.repeat_interleave(members))
