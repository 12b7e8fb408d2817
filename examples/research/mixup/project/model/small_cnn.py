"""A small convolutional network. B images of S × S pixels, S at least 16; C classes."""

from itertools import pairwise

from torch import Tensor, nn


class SmallCNN(nn.Module):
    """Four stages of convolution, normalisation, ReLU and halving; then one linear layer."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64, 128), classes: int = 10) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        for before, after in pairwise((3, *widths)):
            convolution = nn.Conv2d(before, after, kernel_size=3, padding=1, bias=False)
            stages += [convolution, nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, (B, 3, S, S) -> (B, C)."""
        features = self.stages(images)  # (B, widths[-1], S / 16, S / 16)
        return self.head(features.mean(dim=(2, 3)))
