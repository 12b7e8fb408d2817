"""YAML to dataclasses and back, with errors that name the key, the value and the fix."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import types
import typing
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml

from unet_seg.errors import SegError

T = TypeVar("T")

UNQUOTED = ' An unquoted # starts a comment in YAML: write "#ff0000".'
"""What to tell someone whose colour has become a comment."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping; an empty file is an empty mapping."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = sorted(path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        hint = f" There are: {', '.join(str(p) for p in near)}." if near else ""
        raise SegError(f"{path}: no such file.{hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SegError(f"{path}: cannot be read as a text file ({error}).") from None
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        hint = UNQUOTED if re.search(r"[:,\[]\s*#[0-9a-fA-F]{6}\b", text) else ""
        problem = getattr(error, "problem", error)
        raise SegError(f"{path}{line}: is not YAML: {problem}.{hint}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SegError(f"{path}: holds {_a(values)}, expected keys and values such as 'seed: 0'.")
    return values


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set one `dotted.key=value` in nested values; the value is read as YAML."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise SegError(f"{override!r} is not key=value; write for example train.steps=100.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise SegError(f"{override!r}: {text!r} is not a YAML value.") from None
    *sections, last = key.strip().split(".")
    here = values
    for depth, section in enumerate(sections, start=1):
        inner = here.setdefault(section, {})
        if inner is None:
            inner = here[section] = {}
        if not isinstance(inner, dict):
            raise SegError(f"{override!r}: {'.'.join(sections[:depth])} holds a value, not keys.")
        here = inner
    here[last] = value


def build(kind: type[T], values: Mapping[str, Any], key: str = "") -> T:
    """Make a dataclass of a mapping, field by field; nested dataclasses are built the same way."""
    hints = typing.get_type_hints(kind)
    names = [f.name for f in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for given in values:
        if given not in names:
            near = get_close_matches(str(given), names, n=1)
            hint = f" Did you mean {_join(key, near[0])}?" if near else ""
            raise SegError(
                f"unknown key {_join(key, str(given))}.{hint} "
                f"Known under {key or 'the top'}: {', '.join(names)}."
            )
    for f in dataclasses.fields(kind):  # type: ignore[arg-type]
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and f.name not in values:
            raise SegError(f"{_join(key, f.name)} is missing; it has no default.")
    made = {name: _convert(hints[name], value, _join(key, name)) for name, value in values.items()}
    return kind(**made)


def to_plain(value: Any) -> Any:
    """Nested dataclasses and tuples to dicts and lists, as YAML writes them."""
    if dataclasses.is_dataclass(value):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {name: to_plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(inner) for inner in value]
    return value


def _convert(hint: Any, value: Any, key: str) -> Any:
    """Read one value as the type of its field."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(arguments, value, key)
    if origin is typing.Literal:
        if value not in arguments or isinstance(value, bool):
            near = get_close_matches(str(value), [str(a) for a in arguments], n=1)
            hint_text = f" Did you mean {near[0]}?" if near else ""
            raise SegError(
                f"{key}={value!r} is unknown.{hint_text} "
                f"Choose one of: {', '.join(str(a) for a in arguments)}."
            )
        return value
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise SegError(f"{key} holds {_a(value)}, expected keys under it.")
        return build(hint, value, key)  # type: ignore[arg-type]
    if origin is tuple:
        return _convert_tuple(arguments, value, key)
    if origin is list:
        if not isinstance(value, list):
            raise SegError(f"{key} holds {_a(value)}, expected a list in [ ].")
        return [_convert(arguments[0], inner, f"{key}[{i}]") for i, inner in enumerate(value)]
    if origin is dict:
        if not isinstance(value, dict):
            raise SegError(f"{key} holds {_a(value)}, expected names and values under it.")
        return {str(k): _convert(arguments[1], v, _join(key, str(k))) for k, v in value.items()}
    return _convert_scalar(hint, value, key)


def _convert_union(arguments: tuple[Any, ...], value: Any, key: str) -> Any:
    if value is None and type(None) in arguments:
        return None
    choices = [a for a in arguments if a is not type(None)]
    if len(choices) == 1:
        return _convert(choices[0], value, key)
    for choice in choices:
        try:
            return _convert(choice, value, key)
        except SegError:  # noqa: PERF203 - two or three choices, tried once
            continue
    comment = value is None and str in choices
    hint = UNQUOTED if comment else ""
    expected = " or ".join(_name(c) for c in choices)
    raise SegError(f"{key} holds {_a(value)}, expected {expected}.{hint}")


def _convert_tuple(arguments: tuple[Any, ...], value: Any, key: str) -> tuple[Any, ...]:
    many = len(arguments) == 2 and arguments[1] is Ellipsis
    if not isinstance(value, (list, tuple)):
        raise SegError(f"{key} holds {_a(value)}, expected a list such as [1, 2].")
    if not many and len(value) != len(arguments):
        raise SegError(f"{key} has {len(value)} values, expected {len(arguments)}.")
    inner = [arguments[0]] * len(value) if many else arguments
    pairs = enumerate(zip(inner, value, strict=True))
    return tuple(_convert(hint, item, f"{key}[{i}]") for i, (hint, item) in pairs)


def _convert_scalar(hint: Any, value: Any, key: str) -> Any:
    if hint is float and isinstance(value, str):
        # YAML 1.1 reads 1e-3 as a string; a person who wrote it meant the number.
        with contextlib.suppress(ValueError):
            value = float(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise SegError(f"{key} holds {_a(value)}, expected {_name(hint)}.")
    if hint is float and value != value:
        raise SegError(f"{key} is NaN, expected a number.")
    return value


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _name(hint: Any) -> str:
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    return names.get(hint, "a list" if typing.get_origin(hint) is list else str(hint))


def _a(value: Any) -> str:
    """A value as a message shows it, with what kind it is."""
    kinds = {bool: "true or false", int: "the number", float: "the number", str: "the text"}
    if value is None:
        return "nothing"
    if isinstance(value, (list, tuple)):
        return f"the list {list(value)}"
    if isinstance(value, dict):
        return "keys and values"
    return f"{kinds.get(type(value), type(value).__name__)} {value!r}"
