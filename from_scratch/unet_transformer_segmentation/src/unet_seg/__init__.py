"""U-Net and U-Net + transformer segmentation, from scratch in plain PyTorch.

Start reading at `models.py` (what the network is), `train.py` (how it learns) and `losses.py` (from
what). README.md has the whole reading order.
"""

__version__ = "0.1.0"
