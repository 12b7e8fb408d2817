"""From YAML text to typed settings and back.

`Reader` walks a dataclass type and the YAML values side by side; whatever does not fit is an
AsrError that names the dotted key, what was found and what belongs there.
"""

from __future__ import annotations

import contextlib
import difflib
import types
from collections.abc import Iterable
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from paraformer_asr.errors import AsrError

Settings = TypeVar("Settings")


def load_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; AsrError with file and line if there is none."""
    if not path.is_file():
        others = sorted(str(p) for p in path.parent.glob("*.yaml"))
        hint = f" Did you mean one of: {', '.join(others)}?" if others else ""
        raise AsrError(f"{path}: there is no such file.{hint}")
    try:
        loaded = yaml.safe_load(path.read_bytes().decode("utf-8"))
    except UnicodeDecodeError as error:
        raise AsrError(
            f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8."
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise AsrError(f"{place}: not YAML ({error.problem}).") from None
    except yaml.YAMLError as error:
        raise AsrError(f"{path}: not YAML ({error}).") from None
    if loaded is not None and not isinstance(loaded, dict):
        raise AsrError(f"{path}: expected keys with values, such as 'seed: 0'; found {loaded!r}.")
    return loaded or {}


def set_key(values: dict[str, Any], assignment: str) -> None:
    """Apply `section.key=value` to nested values; the right side is YAML."""
    dotted, sign, right = assignment.partition("=")
    if not sign or not dotted.strip():
        raise AsrError(f"{assignment!r} sets nothing; write key=value, such as train.steps=100.")
    try:
        value = yaml.safe_load(right)
    except yaml.YAMLError:
        raise AsrError(f"{assignment!r}: {right!r} is no YAML value; quote it.") from None
    parts = dotted.strip().split(".")
    for name in parts[:-1]:
        if values.get(name) is None:
            values[name] = {}
        values = values[name]
        if not isinstance(values, dict):
            raise AsrError(f"{assignment!r}: {name} is a value and has no keys under it.")
    values[parts[-1]] = value


def as_settings(kind: type[Settings], values: dict[str, Any]) -> Settings:
    """Make a settings dataclass of plain values, all the way down."""
    made: Settings = Reader().dataclass(kind, values, ())
    return made


def as_plain(settings: Any) -> dict[str, Any]:
    """The opposite: nested dicts of plain values, with lists where the settings have tuples."""
    return {key: _plain(value) for key, value in asdict(settings).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, tuple) else value


class Reader:
    """Reads values as the types of dataclass fields; `at` is the path of keys walked so far."""

    def dataclass(self, kind: Any, values: Any, at: tuple[str, ...]) -> Any:
        if not isinstance(values, dict):
            raise self.wrong(at, values, "keys and values under it")
        hints = get_type_hints(kind)
        known = {field.name: field for field in fields(kind)}
        for name in values:
            if name not in known:
                raise AsrError(
                    f"{_dotted(at, name)} is no setting.{nearest(str(name), known)} "
                    f"Settings here: {', '.join(known)}."
                )
        for name, field in known.items():
            if name not in values and field.default is field.default_factory is MISSING:
                raise AsrError(f"{_dotted(at, name)} is needed and has no default; add it.")
        return kind(**{k: self.value(hints[k], v, (*at, k)) for k, v in values.items()})

    def value(self, hint: Any, value: Any, at: tuple[str, ...]) -> Any:
        origin = get_origin(hint)
        if origin in (Union, types.UnionType):  # always `X | None` in this package
            (inner,) = [choice for choice in get_args(hint) if choice is not type(None)]
            return None if value is None else self.value(inner, value, at)
        if origin is Literal:
            return self.choice(get_args(hint), value, at)
        if origin is tuple:
            return self.sequence(get_args(hint), value, at)
        if is_dataclass(hint):
            return self.dataclass(hint, value, at)
        return self.scalar(hint, value, at)

    def choice(self, choices: tuple[Any, ...], value: Any, at: tuple[str, ...]) -> Any:
        if value in choices and not isinstance(value, bool):
            return value
        listed = ", ".join(str(choice) for choice in choices)
        hint = nearest(str(value), map(str, choices))
        raise AsrError(f"{_dotted(at)}={value!r} is none of: {listed}.{hint}")

    def sequence(self, inner: tuple[Any, ...], value: Any, at: tuple[str, ...]) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)):
            raise self.wrong(at, value, "a list such as [1, 2]")
        if inner[-1] is Ellipsis:
            inner = (inner[0],) * len(value)
        if len(inner) != len(value):
            raise AsrError(f"{_dotted(at)} lists {len(value)} values; expected {len(inner)}.")
        items = enumerate(zip(inner, value, strict=True))
        return tuple(self.value(hint, item, (*at, str(i))) for i, (hint, item) in items)

    def scalar(self, hint: type, value: Any, at: tuple[str, ...]) -> Any:
        if hint is float and type(value) in (int, str):
            with contextlib.suppress(ValueError):  # YAML reads 1e-3, without a point, as text
                value = float(value)
        if type(value) is not hint or value != value:
            names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
            raise self.wrong(at, value, names[hint])
        return value

    @staticmethod
    def wrong(at: tuple[str, ...], value: Any, expected: str) -> AsrError:
        return AsrError(f"{_dotted(at)} is {value!r}; expected {expected}.")


def nearest(name: str, known: Iterable[str]) -> str:
    """' Did you mean x?' for a close spelling among `known`, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]}?" if close else ""


def _dotted(at: tuple[str, ...], name: object = None) -> str:
    parts = at if name is None else (*at, str(name))
    return ".".join(parts) or "the configuration"
