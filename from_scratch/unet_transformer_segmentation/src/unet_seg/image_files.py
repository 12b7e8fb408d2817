"""Image files: in come paths, out go tensors of images and arrays of masks, and back again.

PNG, JPEG, TIFF, BMP and the like are read and written by Pillow, which matplotlib brings along;
`.npy` arrays by NumPy. Everything written is written whole or not at all (`runs.write_atomic`).

Letters: C channels, H, W pixels, N classes.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from unet_seg.errors import SegError
from unet_seg.runs import write_atomic

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".npy")
"""Endings, in lower case, of the files that count as images."""

_COLOURS = (
    *((0, 0, 0), (230, 25, 75), (60, 180, 75), (255, 225, 25), (0, 130, 200), (245, 130, 48)),
    *((145, 30, 180), (70, 240, 240), (240, 50, 230), (170, 255, 195), (0, 110, 90)),
    *((160, 90, 70), (128, 0, 0), (0, 0, 128), (128, 128, 0), (250, 190, 212)),
)
"""Chosen by hand: black for the background, then hues far apart in an order that keeps the first
few the farthest apart."""

_Array = npt.NDArray[Any]
_T = TypeVar("_T")


def read_image(path: str | Path, channels: int) -> Tensor:
    """Read an image for the network.

    Grey, RGB, palette, 1-bit and CMYK files are understood; transparency is dropped; 16-bit grey is
    scaled to 8 bits; a camera's orientation mark (EXIF) is applied. Grey becomes RGB by repeating
    it, RGB becomes grey by its luminance 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601).

    Args:
        path: an image file, or a `.npy` array (H,W) or (H,W,C) with C 1, 3 or 4, of uint8 or of
            floats in [0, 1].
        channels: 1 or 3.
    Returns:
        uint8 (channels,H,W) in [0, 255]; for a `.npy` of floats float32 in [0, 1].
    Raises:
        SegError: no such file, not an image, truncated, NaN or floats outside [0, 1]. The message
            starts with the path. Also for other `channels`.
    """
    path = Path(path)
    if channels not in (1, 3):
        raise SegError(f"{path}: channels={channels}; an image is read with 1 (grey) or 3 (RGB).")
    if path.suffix.lower() == ".npy":
        return _channels_first(_read_array_image(path), channels)
    return _channels_first(_decode(path, lambda image: _to_8_bit(image, path)), channels)


def read_mask(path: str | Path, *, colours: bool = False) -> _Array:
    """Read a mask as the values that stand in the file.

    Args:
        path: an image file or a `.npy` array of integers or booleans.
        colours: read colours instead of numbers; a grey value g is then the colour (g, g, g).
    Returns:
        Integers (H,W): grey values, or palette indices of a palette file (1-bit: 0 and 1). With
        `colours` uint8 (H,W,3).
    Raises:
        SegError: no such file, not an image, truncated, or a coloured file without `colours`. The
            message starts with the path.
    """
    path = Path(path)
    if path.suffix.lower() == ".npy":
        values = _load_npy(path)
        if values.dtype.kind not in "iub" or values.ndim not in (2, 3) or values.size == 0:
            raise SegError(
                f"{path}: holds {values.dtype} of shape {values.shape}, "
                "expected whole numbers (H, W) or uint8 colours (H, W, 3)."
            )
        values = values.astype(np.uint8) if values.dtype == bool else values
    else:
        values = _decode(path, lambda image: _mask_values(image, path, colours))
    return _as_colours(values, path) if colours else _as_numbers(values, path)


def write_png(path: str | Path, array: _Array) -> None:
    """Write uint8 (H,W) or (H,W,3) as a PNG file; the folder must be there."""
    _save(Path(path), Image.fromarray(np.ascontiguousarray(array, dtype=np.uint8)))


def write_mask(path: str | Path, mask: _Array, colours: _Array) -> None:
    """Write class ids as an 8-bit PNG that shows colours and still holds the ids.

    Args:
        path: the file, ending in .png.
        mask: (H,W) whole numbers 0 ... 255.
        colours: uint8 (N,3) as `palette` makes them; ids from N on, such as ignored pixels, show
            as white.
    """
    image = Image.fromarray(np.ascontiguousarray(mask, dtype=np.uint8))
    table = np.full((256, 3), 255, dtype=np.uint8)
    table[: len(colours)] = colours
    image.putpalette(table.tobytes())  # this makes a grey image a palette image; values stay
    _save(Path(path), image)


def palette(num_classes: int) -> npt.NDArray[np.uint8]:
    """Colours for pictures: uint8 (num_classes,3), all different; class 0 is black.

    Beyond the hand-chosen ones hues follow the golden angle, which never falls on an earlier hue,
    in three brightnesses.
    """
    made = list(_COLOURS)
    for i in range(len(made), num_classes):
        r, g, b = colorsys.hsv_to_rgb(i * 0.618034 % 1, 0.45 + 0.2 * (i % 2), 1 - 0.2 * (i % 3))
        made.append((round(255 * r), round(255 * g), round(255 * b)))
    return np.array(made[:num_classes], dtype=np.uint8)


def overlay(
    image: _Array, mask: _Array, colours: _Array, alpha: float = 0.45
) -> npt.NDArray[np.uint8]:
    """Lay the colours of a mask over an image, with a solid line around each region.

    Args:
        image: uint8 (H,W) or (H,W,3).
        mask: (H,W) class ids; class 0 and ids without a colour (ignored pixels) stay clear.
        colours: uint8 (N,3).
        alpha: how much of the colour is laid over the inside of a region, in [0, 1].
    Returns:
        uint8 (H,W,3).
    Raises:
        SegError: image and mask differ in size.
    """
    if image.shape[:2] != mask.shape:
        raise SegError(
            f"overlay: the image is {_size(image)}, the mask {_size(mask)}; they must be equal."
        )
    picture = np.repeat(image[:, :, None], 3, axis=2) if image.ndim == 2 else image
    shown = (mask > 0) & (mask < len(colours))
    colour_HW3 = colours[np.where(shown, mask, 0)].astype(np.float32)
    strength_HW = np.where(_outline(mask), 1.0, alpha) * shown
    mixed = picture + (colour_HW3 - picture) * strength_HW[:, :, None]
    return np.asarray(np.rint(mixed), dtype=np.uint8)


def _outline(mask: _Array) -> npt.NDArray[np.bool_]:
    """True (H,W) where a neighbour above, below, left or right has another value."""
    edge = np.zeros(mask.shape, dtype=bool)
    down, across = mask[1:] != mask[:-1], mask[:, 1:] != mask[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    return edge


def _decode(path: Path, convert: Callable[[Image.Image], _T]) -> _T:
    """Open a file, turn it upright, convert it; every way to fail becomes a message."""
    try:
        with Image.open(path) as file:
            return convert(ImageOps.exif_transpose(file))
    except FileNotFoundError:
        raise SegError(f"{path}: no such file.") from None
    except UnidentifiedImageError:
        raise SegError(
            f"{path}: is not an image that can be read. Convert it to PNG, or remove it."
        ) from None
    except SegError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise SegError(f"{path}: cannot be opened ({error.strerror}).") from None
        # Pillow reports truncated data as OSError without a number, broken chunks as SyntaxError.
        raise SegError(
            f"{path}: is broken or truncated ({error}). Copy the file again, or remove it."
        ) from None


def _to_8_bit(image: Image.Image, path: Path) -> _Array:
    """uint8 (H,W) for grey, else (H,W,3)."""
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    if image.mode == "LA":
        return np.asarray(image.getchannel("L"))
    if image.mode.startswith("I"):  # 16-bit grey; some files and Pillow versions call it 32-bit
        wide = np.asarray(image).astype(np.int64)
        if wide.min() < 0 or wide.max() > 65535:
            raise SegError(
                f"{path}: has grey values {wide.min()} to {wide.max()}, expected 8 or 16 bits. "
                "Scale it to 0 ... 255, or save it as .npy of floats in [0, 1]."
            )
        return np.rint(wide / 257).astype(np.uint8)  # 65535 = 255 * 257
    if image.mode == "F":
        raise SegError(f"{path}: holds floats; save them as .npy in [0, 1].")
    if image.mode == "P":
        # Palettes may mark a colour as transparent, which Pillow wants to see as RGBA first.
        image = image.convert("RGBA")
    return np.asarray(image.convert("RGB"))


def _channels_first(image: _Array, channels: int) -> Tensor:
    """(H,W) or (H,W,C) to a tensor (channels,H,W) of the same dtype."""
    grey = image.ndim == 2
    if not grey and channels == 1:
        weighted = image[..., :3] @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
        image = np.rint(weighted).astype(np.uint8) if image.dtype == np.uint8 else weighted
        grey = True
    if grey:
        # A copy, for Pillow's arrays are read-only and each channel needs its own memory.
        return torch.from_numpy(np.repeat(image[None], channels, axis=0))
    return torch.from_numpy(np.ascontiguousarray(image[..., :3].transpose(2, 0, 1)).copy())


def _read_array_image(path: Path) -> _Array:
    """uint8 or float32 (H,W) or (H,W,3) from `.npy`."""
    image = _load_npy(path)
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image.size == 0 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))):
        raise SegError(
            f"{path}: has shape {image.shape}, expected (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)."
        )
    if image.dtype == np.uint8:
        return image
    if image.dtype.kind != "f":
        raise SegError(f"{path}: holds {image.dtype}, expected uint8, or floats in [0, 1].")
    missing = int(np.count_nonzero(~np.isfinite(image)))
    if missing:
        raise SegError(
            f"{path}: {missing} of {image.size} values are NaN or infinite; expected numbers in "
            "[0, 1]. Replace them (np.nan_to_num) or remove the file."
        )
    if image.min() < 0 or image.max() > 1:
        raise SegError(
            f"{path}: floats from {image.min():g} to {image.max():g}, expected [0, 1]. Subtract "
            "the lowest possible value and divide by the range."
        )
    return image.astype(np.float32)


def _load_npy(path: Path) -> _Array:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except FileNotFoundError:
        raise SegError(f"{path}: no such file.") from None
    except (OSError, ValueError, EOFError) as error:
        raise SegError(f"{path}: is not a whole .npy array ({error}).") from None


def _mask_values(image: Image.Image, path: Path, colours: bool) -> _Array:
    """What stands in the file: (H,W) numbers, or (H,W,3) where it or the caller has colours."""
    if image.mode in ("1", "P") and colours:
        return np.asarray(image.convert("RGBA").convert("RGB"))
    if image.mode == "F":
        raise SegError(f"{path}: holds floats; a mask holds whole numbers or colours.")
    if image.mode in ("1", "L", "P"):
        return np.asarray(image).astype(np.uint8)
    if image.mode.startswith("I"):
        return np.asarray(image).astype(np.int64)
    if image.mode == "LA":
        return np.asarray(image.getchannel("L"))
    return np.asarray(image.convert("RGB"))


def _as_numbers(values: _Array, path: Path) -> _Array:
    if values.ndim == 2:
        return values
    if values.shape[2] == 3 and (values == values[:, :, :1]).all():
        return np.ascontiguousarray(values[:, :, 0])  # a grey mask saved as RGB
    raise SegError(
        f"{path}: is a picture in colours, but class_map gives numbers. Name the colours in "
        'class_map, such as "#ff0000", or save the mask as grey.'
    )


def _as_colours(values: _Array, path: Path) -> _Array:
    if values.min() < 0 or values.max() > 255 or (values.ndim == 3 and values.shape[2] != 3):
        raise SegError(
            f"{path}: has no 8-bit colours, but class_map gives colours; name numbers there."
        )
    if values.ndim == 2:
        values = np.repeat(values[:, :, None], 3, axis=2)
    return values.astype(np.uint8)


def _save(path: Path, image: Image.Image) -> None:
    buffer = BytesIO()
    image.save(buffer, format="PNG")
    try:
        write_atomic(path, buffer.getvalue())
    except OSError as error:
        raise SegError(f"{path}: cannot be written ({error.strerror}).") from None


def _size(array: _Array) -> str:
    return f"{array.shape[0]}x{array.shape[1]}"
