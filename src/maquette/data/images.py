"""One image decoder for training and serving: bytes or a file in, RGB pixels out.

`decode_image` reads JPEG, PNG, WebP, BMP, TIFF and single-frame GIF, told apart by content, never
by name. What comes out is always (H, W, 3) uint8, upright and opaque. `resize` brings it to the
size a network sees. Pillow does both; its warnings and errors end here, as `ImageError`.

Letters: H W pixels.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from maquette.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

Pixels = NDArray[np.uint8]
"""(H, W, 3), RGB, 0 to 255."""

FORMATS = ("JPEG", "PNG", "WebP", "BMP", "TIFF", "GIF")

SUFFIXES = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WebP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".gif": "GIF",
}
"""Endings, in lower case, by which people name the formats; decoding goes by content alone."""

_SIGNATURES = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "WebP": rb"RIFF....WEBP",
    "BMP": rb"BM",
    "TIFF": rb"II\*\0|MM\0\*|II\+\0|MM\0\+",
    "GIF": rb"GIF8[79]a",
}
_PATTERNS = {name: re.compile(start, re.DOTALL) for name, start in _SIGNATURES.items()}
_GREY = (128, 128, 128)


class ImageError(DataError):
    """An image that cannot be used; `reason` is a phrase to put after its name."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The image {reason}.")
        self.reason = reason


def format_of(content: bytes) -> str | None:
    """Return which of `FORMATS` the first bytes belong to, or None."""
    found = (name for name, pattern in _PATTERNS.items() if pattern.match(content))
    return next(found, None)


def read_bytes(path: Path) -> bytes:
    """Read a file whole; raises ImageError where the system does not let us."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot be opened: {error.strerror or error}") from None


def decode_image(content: bytes | Path, *, max_pixels: int) -> Pixels:
    """Decode an image to upright, opaque RGB.

    EXIF orientation is applied. Transparency (alpha channel, transparent palette entry or colour)
    is laid on white. Grey and 1-bit images repeat their value in all three channels; 16-bit grey
    in either byte order becomes round(value / 257); 16-bit RGB keeps its upper bytes; CMYK is
    converted without a colour profile. A JPEG with further pictures behind it (MPO) is its first.

    Args:
        content: the bytes of a file, or its path.
        max_pixels: images with more are refused after reading the header, before decoding.
    Returns:
        (H, W, 3) uint8, H·W between 2 and `max_pixels`.
    Raises:
        ImageError: not readable, empty, no image, too large, 1×1, animated, truncated or corrupt.
    """
    return rgb_pixels(open_image(content, max_pixels=max_pixels), max_pixels=max_pixels)


def open_image(content: bytes | Path, *, max_pixels: int) -> Image.Image:
    """Read an image's header and refuse what should not be decoded; no pixel is decoded yet.

    Raises:
        ImageError: as `decode_image`, less what only decoding can show.
    """
    content = read_bytes(content) if isinstance(content, Path) else content
    if not content:
        raise ImageError("is empty (0 bytes)")
    name = format_of(content)
    if name is None:
        raise ImageError(
            f"is not an image Maquette reads: it begins with {content[:8]!r}, which is none of "
            f"{', '.join(FORMATS)}"
        )
    _silence_pillow()
    try:
        image = _reader(name)(io.BytesIO(content))
        refuse_size(*image.size, max_pixels=max_pixels)
        frames = getattr(image, "n_frames", 1)
    except ImageError:
        raise
    except Exception as error:  # as in `rgb_pixels`
        raise _damaged(name, error) from None
    if frames > 1:
        raise ImageError(
            f"is animated or has several pages: {frames} frames, expected 1; "
            "save the wanted frame as a file of its own"
        )
    return image


def rgb_pixels(image: Image.Image, *, max_pixels: int) -> Pixels:
    """Return a Pillow image as upright, opaque RGB, by the rules of `decode_image`.

    Raises:
        ImageError: too large, 1×1, truncated, corrupt, or 32-bit numbers of unknown range.
    """
    refuse_size(*image.size, max_pixels=max_pixels)
    try:
        image.load()
        return _convert(image)
    except ImageError:
        raise
    except Exception as error:  # decoders of hostile files raise a dozen types; each is the file's
        raise _damaged(image.format, error) from None


def refuse_size(width: int, height: int, *, max_pixels: int) -> None:
    """Raise ImageError for a decompression bomb, and for a single pixel."""
    if width * height > max_pixels:
        raise ImageError(
            f"has {width} × {height} = {width * height} pixels, more than max_pixels={max_pixels}; "
            "it was refused before decoding"
        )
    if width * height == 1:
        raise ImageError("is 1 × 1 pixel: there is no picture to learn from")


def resize(pixels: Pixels, size: tuple[int, int], fit: Literal["crop", "pad", "stretch"]) -> Pixels:
    """Bring an image to `size` with antialiased bilinear interpolation (Pillow's).

    crop: the largest centred rectangle of the wanted shape fills `size`; its borders may fall
        between pixels. pad: the whole image, scaled by the largest factor that fits and centred
        (the odd pixel goes right and below), on grey (128, 128, 128). stretch: the whole image,
        distorted. An image of that size already comes back unchanged.

    Args:
        pixels: (H, W, 3) uint8.
        size: (height, width) wanted.
    Returns:
        (height, width, 3) uint8.
    """
    from PIL import Image

    height, width = size
    rows, columns, _ = pixels.shape
    if (rows, columns) == size:
        return pixels
    image = Image.fromarray(pixels)
    if fit == "stretch":
        return np.array(image.resize((width, height), Image.Resampling.BILINEAR))
    if fit == "crop":
        scale = max(height / rows, width / columns)
        left, top = (columns - width / scale) / 2, (rows - height / scale) / 2
        # Rounding may put a border 1e-13 outside the image, which Pillow refuses.
        box = (max(left, 0), max(top, 0), min(columns - left, columns), min(rows - top, rows))
        return np.array(image.resize((width, height), Image.Resampling.BILINEAR, box=box))
    scale = min(height / rows, width / columns)
    inner = (max(round(columns * scale), 1), max(round(rows * scale), 1))
    canvas = Image.new("RGB", (width, height), _GREY)
    scaled = image.resize(inner, Image.Resampling.BILINEAR)
    canvas.paste(scaled, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return np.array(canvas)


def encode_png(pixels: Pixels) -> bytes:
    """Return (H, W, 3) uint8 pixels as the bytes of a PNG, which `decode_image` gives back."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", compress_level=6)
    return stream.getvalue()


def _reader(name: str) -> Callable[[io.BytesIO], Image.Image]:
    """The class that reads a format's header.

    `Image.open` would apply Pillow's own process-wide pixel limit before `max_pixels` is asked,
    and would call a phone's JPEG with an embedded preview (MPO) an animation.
    """
    from PIL import (
        BmpImagePlugin,
        GifImagePlugin,
        JpegImagePlugin,
        PngImagePlugin,
        TiffImagePlugin,
        WebPImagePlugin,
    )

    readers: dict[str, Callable[[io.BytesIO], Image.Image]] = {
        "JPEG": JpegImagePlugin.JpegImageFile,
        "PNG": PngImagePlugin.PngImageFile,
        "WebP": WebPImagePlugin.WebPImageFile,
        "BMP": BmpImagePlugin.BmpImageFile,
        "TIFF": TiffImagePlugin.TiffImageFile,
        "GIF": GifImagePlugin.GifImageFile,
    }
    return readers[name]


def _silence_pillow() -> None:
    """Ignore what Pillow's modules warn of: damaged metadata beside pixels that are whole.

    A filter that stays, not `catch_warnings`, which is not safe in threads.
    """
    wanted = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
    if wanted not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\.")


def _convert(image: Image.Image) -> Pixels:
    from PIL import Image

    image = _upright(image)
    if image.mode in ("I", "F"):
        raise ImageError(
            f"holds 32-bit numbers (Pillow mode {image.mode}) of unknown range; "
            "save it with 8 or 16 bits"
        )
    if image.mode.startswith("I;16"):
        deep = np.asarray(image).astype(np.uint32)
        grey = ((deep + 128) // 257).astype(np.uint8)  # 65535 / 255 is 257
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def _upright(image: Image.Image) -> Image.Image:
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged metadata: the pixels are whole, so they are taken as they lie
        return image


def _damaged(name: str | None, error: Exception) -> ImageError:
    from PIL import Image

    text = str(error) or type(error).__name__
    if isinstance(error, Image.DecompressionBombError):  # canvases and tiles found out on the way
        return ImageError(f"was refused before decoding: {text.rstrip('.')}")
    return ImageError(f"is a truncated or corrupt {name or 'image'} ({text})")
