"""Inputs to try: a bundle's own example in the form a request has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maquette.bundle import Bundle


def example_body(bundle: Bundle) -> dict[str, Any]:
    """A request body for a table model: one row by column name."""
    return {"rows": [bundle.example()]}


def example_features(bundle: Bundle) -> dict[str, Any]:
    """The same row as a list of cells."""
    return {"features": [list(bundle.example().values())]}


def example_image(bundle: Bundle) -> bytes:
    """The bytes of an image for an image model."""
    image: bytes = bundle.example()
    return image
