"""Paraformer: speech recognition that writes a whole sentence in one pass, from scratch."""

__version__ = "0.1.0"
