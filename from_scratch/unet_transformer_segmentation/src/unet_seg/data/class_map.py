"""From the values in a mask file to class ids: what `class_map` and `ignore` in a YAML file mean.

    class_map: {background: 0, nucleus: "1-255"}             numbers and ranges
    class_map: {sky: "#000000", road: "#804080"}             colours; quotes, or YAML sees a comment
    ignore: 250

Letters: H, W pixels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from unet_seg.config import FolderConfig
from unet_seg.data.sample import IGNORE
from unet_seg.errors import SegError

LARGEST = 65535
"""Largest number a mask may hold (16 bits); colours are numbers up to 0xFFFFFF inside."""


class ClassMap:
    """Turns mask values into class ids; made once for a folder.

    Raises:
        SegError: a value that is no number, range or colour, numbers and colours together, the
            same value for two classes, more than 255 classes. The message names the key.
    """

    def __init__(self, folder: FolderConfig) -> None:
        self.classes = tuple(folder.class_map)
        if len(self.classes) > IGNORE:
            raise SegError(
                f"data.folder.class_map has {len(self.classes)} classes; at most {IGNORE}, for the "
                f"id {IGNORE} marks ignored pixels."
            )
        given: list[tuple[str, Any]] = [
            (f"data.folder.class_map.{name}", value) for name, value in folder.class_map.items()
        ]
        if folder.ignore is not None:
            given.append(("data.folder.ignore", folder.ignore))
        self.colours = _all_colours(given)

        owner: dict[int, int] = {}  # value in the file -> position in `given`
        for position, (key, value) in enumerate(given):
            for code in _codes(key, value):
                if code in owner:
                    raise SegError(
                        f"{key}={value!r} and {given[owner[code]][0]} both hold "
                        f"{self.show(code)}; a mask value has one meaning."
                    )
                owner[code] = position
        self._codes = np.array(sorted(owner), dtype=np.int64)
        ids = [IGNORE if owner[c] == len(self.classes) else owner[c] for c in sorted(owner)]
        self._ids = np.array(ids, dtype=np.uint8)

    def to_ids(self, values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Class ids of a mask.

        Args:
            values: integers (H,W), or uint8 colours (H,W,3) if the class map names colours.
        Returns:
            uint8 (H,W): the position of the class in the class map, or IGNORE.
        Raises:
            SegError: values that belong to no class, with how many pixels have each.
        """
        codes = _pack(values) if self.colours else values
        place = np.searchsorted(self._codes, codes).clip(max=len(self._codes) - 1)
        unknown = self._codes[place] != codes
        if unknown.any():
            raise SegError(self._explain(codes[unknown]))
        return np.asarray(self._ids[place])

    def show(self, code: int) -> str:
        """A mask value as the user writes it: 7 or #ff0000."""
        return f"#{code:06x}" if self.colours else str(code)

    def _explain(self, unknown: npt.NDArray[Any], most: int = 4) -> str:
        codes, counts = np.unique(unknown, return_counts=True)
        commonest = np.argsort(-counts, kind="stable")[:most]
        named = [f"{self.show(int(codes[i]))} ({counts[i]} pixels)" for i in commonest]
        more = f" and {len(codes) - most} more" if len(codes) > most else ""
        return f"mask values outside the class map: {', '.join(named)}{more}."


def _pack(colours_HW3: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Colours to numbers 0xRRGGBB (H,W)."""
    wide = colours_HW3.astype(np.int64)
    return np.asarray(wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2])


def _all_colours(given: list[tuple[str, Any]]) -> bool:
    """Whether the values are colours; they must all be, or none."""
    colours = [key for key, value in given if str(value).lstrip().startswith("#")]
    if colours and len(colours) < len(given):
        number = next(key for key, _ in given if key not in colours)
        raise SegError(
            f"{colours[0]} is a colour but {number} is a number; a mask is read as one or the "
            "other, so write colours everywhere or numbers everywhere."
        )
    return bool(colours)


def _codes(key: str, value: object) -> Iterator[int]:
    """The mask values that one entry of the class map stands for."""
    for part in value if isinstance(value, list) else [value]:
        text = str(part).strip()
        if re.fullmatch(r"#[0-9a-fA-F]{6}", text):
            yield int(text[1:], 16)
            continue
        match = re.fullmatch(r"(\d+)(?:\s*-\s*(\d+))?", text)
        if not match:
            raise SegError(
                f"{key}={value!r} is no mask value; write a number (7), a list ([7, 8]), a range "
                '("1-255") or a colour ("#ff0000").'
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last <= LARGEST:
            raise SegError(f"{key}={value!r}: expected first <= last <= {LARGEST}.")
        yield from range(first, last + 1)
