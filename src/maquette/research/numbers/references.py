"""A number in a text that points into a record: `[0.853](results/run.json#/trainings/0/seconds)`.

The target is a JSON file, relative to the text's folder, and a place in it (a JSON pointer, RFC
6901, as a fragment). The link's text is one number, with a unit, `%` or `×` after it or nothing.
The number holds when the record's value, rounded to the decimals shown, is what the text shows;
of a value that lies halfway both neighbours hold. `%` shows the value times one hundred.

    document = read_json(path)              look_up(document, "/trainings/0/seconds") -> Decimal
    shown = read_number("85.3 %")           shown.holds(value), shown.written(value)
    link(0.853, "results/run.json", "trainings", 0, "seconds", decimals=1) -> the Markdown
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal, localcontext
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote, unquote

from maquette.errors import DataError, nearest

SEPARATORS = " ,\u2009\u202f\u00a0"
"""Between groups of thousands: space, comma, thin space, narrow and plain no-break space."""
_NUMBER = re.compile(
    rf"(?P<sign>[+−-]?)"
    rf"(?P<whole>\d+|\d{{1,3}}(?:[{SEPARATORS}]\d{{3}})+)"
    r"(?:\.(?P<decimals>\d+))?"
    r"(?:[eE](?P<exponent>[+-]?\d{1,3}))?"
    # A percent sign, or one word without digits: GiB, min, ×, images/s.
    r"(?P<suffix>\s?(?:%(?: points?)?|[^\s\d.,;:+−±%-][^\s\d]*))?"
)


@dataclass(frozen=True)
class ShownNumber:
    """A number as a text shows it."""

    sign: str
    """"", "+", "-" or "−"."""
    separator: str
    """Between thousands, or ""."""
    value: Decimal
    decimals: int
    """Digits after the point."""
    exponent: int | None
    """The power of ten of 1.5e-4, or None."""
    suffix: str
    """What follows, with the space before it: " GiB", "%"."""

    @property
    def is_percent(self) -> bool:
        """Whether the text shows one hundred times the record's value."""
        return self.suffix.lstrip().startswith("%")

    def holds(self, recorded: Decimal) -> bool:
        """Return whether the recorded value, rounded as shown, is this number."""
        scaled = recorded * 100 if self.is_percent else recorded
        if self.sign and not self.value and _sign(scaled) not in {_ASCII.get(self.sign), ""}:
            return False  # "+0.00" of a value below zero
        step = (self.exponent or 0) - self.decimals
        return self.value in {_rounded(scaled, step, how) for how in _BOTH_WAYS}

    def written(self, recorded: Decimal) -> str:
        """Return the recorded value, written as this number is: sign, decimals, separator, unit."""
        scaled = recorded * 100 if self.is_percent else recorded
        if self.exponent is None:
            rounded = _rounded(scaled, -self.decimals, ROUND_HALF_EVEN)
            digits = f"{abs(rounded):,.{self.decimals}f}".replace(",", self.separator)
        else:
            mantissa, power = f"{float(abs(scaled)):.{self.decimals}e}".split("e")
            digits = f"{mantissa}e{int(power)}"
        minus = "-" if self.sign == "-" else "−"
        plus = "+" if self.sign == "+" and scaled else ""
        return f"{minus if _sign(scaled) == '-' else plus}{digits}{self.suffix}"


_LARGEST = 308
"""Power of ten; what is larger is no measurement, and writing it out would fill the memory."""
_ASCII = {"+": "+", "-": "-", "−": "-"}
_BOTH_WAYS = (ROUND_HALF_EVEN, ROUND_HALF_UP)


def read_number(text: str) -> ShownNumber | None:
    """Read a text that is exactly one number with what may follow it; None when it is not."""
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        return None
    sign, whole, decimals, exponent, suffix = (part or "" for part in match.groups())
    digits = "".join(c for c in whole if c.isdigit())
    separators = {c for c in whole if not c.isdigit()}
    if len(separators) > 1:
        return None
    number = f"{_ASCII.get(sign, '')}{digits}.{decimals or 0}e{exponent or 0}"
    return ShownNumber(
        sign=sign,
        separator="".join(separators),
        value=Decimal(number),
        decimals=len(decimals),
        exponent=int(exponent) if exponent else None,
        suffix=suffix,
    )


def split_target(target: str) -> tuple[str, str] | None:
    """Split a link's target into the record's path and the pointer.

    Returns:
        None when the link is not to a JSON file of this folder tree: another kind of file, or an
        address with a scheme or a host. The pointer is "" when the target has no fragment.
    """
    path, _, fragment = target.partition("#")
    if not path.lower().endswith(".json") or re.match(r"[a-zA-Z][\w+.-]*:|//", path):
        return None
    return unquote(path), unquote(fragment)


def read_json(path: Path) -> Any:
    """Read a record, with every number as the decimal that is written.

    Raises:
        DataError: it is not there, or not JSON; NaN and infinity are not JSON.
    """
    try:
        return json.loads(
            path.read_bytes(), parse_float=Decimal, parse_int=Decimal, parse_constant=_no_constant
        )
    except OSError as error:
        raise DataError(f"could not read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}") from error


def look_up(document: Any, pointer: str) -> Decimal:
    """Return the number at a place of a document that `read_json` read.

    Raises:
        DataError: nothing is there (the text names the step that fails), or no number is.
    """
    if not pointer.startswith("/"):
        raise DataError(f"{pointer!r} is not a place in a record: a place begins with /")
    value, at = document, ""
    for step in pointer[1:].split("/"):
        key = step.replace("~1", "/").replace("~0", "~")
        value = _step(value, key, at)
        at = f"{at}/{step}"
    if not isinstance(value, Decimal):
        raise DataError(f"{pointer} is {_kind(value)}, not a number")
    if value.adjusted() > _LARGEST:
        raise DataError(f"{pointer} is larger than a number of double precision can be")
    return value


def link(
    value: float,
    file: str,
    *place: str | int,
    decimals: int,
    suffix: str = "",
    signed: bool = False,
    scientific: bool = False,
) -> str:
    """Return the Markdown of a number and the place of its record.

    Args:
        value: what the record holds there.
        file: the record, relative to the text's folder.
        place: keys and positions, from the outermost.
        decimals: digits after the point.
        suffix: what follows the number; with a percent sign the value is shown times one hundred.
        signed: write a plus before what is above zero.
        scientific: write 1.5e-4; `decimals` are those of 1.5.
    """
    exponent = 0 if scientific else None
    shape = ShownNumber("+" if signed else "", "", Decimal(0), decimals, exponent, suffix)
    shown = shape.written(Decimal(repr(value)))
    return f"[{shown}]({quote(file)}#{quote(pointer(*place), safe='/~')})"


def pointer(*place: str | int) -> str:
    """Return the JSON pointer of a place: ("a/b", 0) -> "/a~1b/0"."""
    return "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in place)


def _step(value: Any, key: str, at: str) -> Any:
    where = at or "the record"
    if isinstance(value, dict):
        if key not in value:
            raise DataError(f"{where} has no {key!r}{_choices(key, value)}")
        return value[key]
    if isinstance(value, list):
        if not re.fullmatch(r"0|[1-9]\d{0,8}", key):
            raise DataError(f"{where} is a list: a position is expected, not {key!r}")
        if int(key) >= len(value):
            raise DataError(f"{where} has {len(value)} entries, numbered from 0; there is no {key}")
        return value[int(key)]
    raise DataError(f"{where} is {_kind(value)}: nothing lies below it")


def _choices(key: str, among: dict[str, Any]) -> str:
    near = nearest(key, among).strip()
    return f". {near}" if near else f": it has {', '.join(list(among)[:12]) or 'nothing'}"


def _kind(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    names = {dict: "an object", list: "a list", str: f"the text {value!r}", Decimal: "a number"}
    return names[type(value)]


def _sign(value: Decimal) -> str:
    """Return "-", "+" or, of zero, ""."""
    return ("-" if value < 0 else "+") if value else ""


def _rounded(value: Decimal, exponent: int, how: str) -> Decimal:
    """Round to a multiple of ten to the `exponent`, however many digits that takes."""
    with localcontext() as context:
        context.prec = max(28, value.adjusted() - exponent + 5, len(value.as_tuple().digits) + 5)
        return value.quantize(Decimal(1).scaleb(exponent), rounding=how)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}, which JSON does not know; write null")
