"""Render the recipe's schema as a page: every key, its type, its default, what it does.

python -m maquette.recipe.reference docs/recipe.md
"""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from maquette.files import write_text
from maquette.recipe.reading import section_in
from maquette.recipe.schema import Recipe

HEAD = """\
# Recipe reference

Every key a recipe may hold, in the order of the file. Unknown keys are errors; any key can be
changed from the command line as `section.key=value`. This page is made from the schema that reads
recipes: `python -m maquette.recipe.reference docs/recipe.md`.
"""


def render() -> str:
    """Return the whole page as Markdown."""
    parts = [HEAD]
    for path, section in _sections(Recipe, ""):
        parts.append(f"\n## {path or 'Top level'}\n\n{_first_line(section.__doc__)}\n")
        parts.append("\n| key | type | default | what it does |\n| --- | --- | --- | --- |\n")
        for name, field in section.model_fields.items():
            parts.append(_row(field.alias or name, field))
    return "".join(parts)


def _sections(section: type[BaseModel], path: str) -> list[tuple[str, type[BaseModel]]]:
    found = [(path, section)]
    for name, field in section.model_fields.items():
        inner = section_in(field.annotation)
        if inner is not None:
            key = field.alias or name
            found += _sections(inner, f"{path}.{key}" if path else key)
    return found


def _row(name: str, field: FieldInfo) -> str:
    bounds = ", ".join(_bound(constraint) for constraint in field.metadata)
    kind = _type_name(field.annotation) + (f" ({bounds})" if bounds.strip(", ") else "")
    text = _first_line(field.description)
    return f"| `{name}` | {kind} | {_default(field)} | {text} |\n".replace("|  |", "| |")


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "required"
    if isinstance(field.default, BaseModel):
        return "see below"
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    if isinstance(field.default, tuple):
        return (
            f"`[{', '.join(map(str, field.default))}]`" if len(field.default) < 5 else "see schema"
        )
    return "none" if field.default is None else f"`{field.default}`"


_UNIONS = (Union, types.UnionType)


def _type_name(annotation: Any) -> str:
    origin, options = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        bounds = ", ".join(filter(None, (_bound(part) for part in options[1:])))
        return _type_name(options[0]) + (f" ({bounds})" if bounds else "")
    if origin is Literal:
        return ", ".join(f"`{option}`" for option in options)
    if origin in _UNIONS:
        names = [_type_name(option) for option in options if option is not type(None)]
        return " or ".join(names)
    if origin is tuple:
        inner = [_type_name(option) for option in options if option is not ...]
        return f"list of {inner[0]}" if ... in options else f"[{', '.join(inner)}]"
    if origin is dict:
        return f"mapping of {_type_name(options[0])} to {_type_name(options[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return {str: "text", int: "whole number", float: "number", bool: "true or false"}[annotation]


_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def _bound(constraint: Any) -> str:
    """Read a pydantic constraint, or the constraints inside a Field(...)."""
    inner = getattr(constraint, "metadata", None)
    if inner:
        return ", ".join(filter(None, map(_bound, inner)))
    signs = [
        f"{sign} {getattr(constraint, name):g}"
        for name, sign in _SIGNS.items()
        if getattr(constraint, name, None) is not None
    ]
    return ", ".join(signs)


def _first_line(text: str | None) -> str:
    return " ".join((text or "").strip().split("\n\n")[0].split())


if __name__ == "__main__":
    write_text(Path(sys.argv[1]), render())
