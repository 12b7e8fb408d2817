"""The network of the task: CLIP, and how its two features are compared.

Letters: B batch, T tokens, E embedding width, E' width of prepared features, N classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from maquette.tasks.image_text.clip import CLIP
from maquette.tasks.image_text.similarity import Prepare, make_similarity


class PairModel(nn.Module):
    """CLIP with a similarity; with class features it also classifies images by themselves."""

    class_features: Tensor | None

    def __init__(
        self,
        clip: CLIP,
        *,
        similarity: str = "cosine",
        has_bias: bool = False,
        num_classes: int = 0,
    ) -> None:
        """Wrap `clip`.

        Args:
            has_bias: learn a bias beside the temperature (the SigLIP loss).
            num_classes: N of a network that classifies; its class features start as zeros.
        """
        super().__init__()
        self.clip = clip
        width = clip.config.embed_dim
        self.prepare: Prepare = make_similarity(similarity, embed_dim=width)
        self.logit_bias = nn.Parameter(torch.zeros(())) if has_bias else None
        classes = torch.zeros(num_classes, width) if num_classes else None
        self.register_buffer("class_features", classes)

    def forward(self, pixels: Tensor, ids: Tensor | None = None) -> Tensor:
        """Return features whose dot product is the similarity, or class logits.

        Args:
            pixels: (B, 3, h, w) float, normalised.
            ids: (B, T) int64 tokens; without them images are classified.
        Returns:
            (B, 2, E') float32, of images and of texts; or (B, N) float32 logits.
        """
        if ids is None:
            return self.classify(pixels)
        images, texts = self.prepare(self.clip.encode_image(pixels), self.clip.encode_text(ids))
        return torch.stack([images.float(), texts.float()], dim=1)

    def classify(self, pixels: Tensor) -> Tensor:
        """(B, 3, h, w) -> (B, N) float32 logits: scaled similarities with the class features."""
        assert self.class_features is not None, "the input schema asks for texts otherwise"
        images, classes = self.prepare(self.clip.encode_image(pixels), self.class_features)
        logits: Tensor = self.clip.logit_scale.exp() * (images.float() @ classes.float().T)
        return logits
