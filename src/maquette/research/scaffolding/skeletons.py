"""An item of the plan -> the code to begin with, and its test.

What the plan says becomes the docstring, the formula word for word; the body raises
NotImplementedError until somebody writes it. The templates are in templates/item/. Everything here
is laid out as `ruff format` and its import order would do it, in lines of `WIDTH`.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from maquette.research.planning.plan import Item, Kind

if TYPE_CHECKING:
    from jinja2 import Environment

WIDTH = 100
INSTALLED = ("pytest", "torch")
"""Modules that skeletons import and a project does not hold itself."""
_TOLD_ELSEWHERE = ("source", "sha256", "code")
"""Fields that are code already, so no docstring repeats them."""

HEADS: Mapping[Kind, Mapping[str, tuple[str, ...]]] = {
    "dataset": {"data.dataset": ("SOURCES", "Splits")},
    "model": {"torch": ("Tensor", "nn")},
    "loss": {"torch": ("Tensor",)},
    "metric": {"torch": ("Tensor",)},
}
"""What the code of an item imports, besides the function that fetches a data set."""

_TO_WRITE: Mapping[Kind, str] = {
    "model": "make its layers, and write forward.",
    "loss": "write its formula.",
    "metric": "write it.",
}
_TO_TEST: Mapping[Kind, str] = {
    "model": "A small input gives outputs of the right shape, and every parameter gets a gradient.",
    "loss": "On two or three samples the loss is what the formula gives by hand.",
    "metric": "On a few samples the metric is what counting by hand gives.",
}


@cache
def environment() -> Environment:
    """Return the environment of all templates in templates/."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=False,  # what is written is Python and Markdown, which have no tags to escape
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def item_code(item: Item, *, fetch: str = "") -> str:
    """Return the class or function of an item, without a final newline.

    Args:
        fetch: for a data set, the expression that brings its file here.
    """
    template = environment().get_template(f"item/{item.kind}.py.jinja")
    unwritten = _unwritten(item, fetch)
    indent = " " * (8 if item.kind == "model" else 4)
    return template.render(
        item=item,
        doc=docstring(_definition(item), "    "),
        fetch=fetch,
        unwritten=call(indent, "raise NotImplementedError", unwritten),
    ).rstrip("\n")


def module_code(items: Sequence[Item], fetches: Mapping[str, str]) -> str:
    """Return a whole file that holds items and nothing else.

    Args:
        fetches: slug of a data set -> the expression that brings its file here.
    """
    names = ", ".join(item.name for item in items)
    return (
        environment()
        .get_template("item/module.py.jinja")
        .render(
            doc=docstring(f"{names}, as the plan defines {'it' if len(items) == 1 else 'them'}."),
            imports=import_lines(item_imports(items, fetches)),
            items=[item_code(item, fetch=fetches.get(item.slug, "")) for item in items],
        )
    )


def item_imports(items: Iterable[Item], fetches: Mapping[str, str]) -> dict[str, set[str]]:
    """Return what the code of items imports: module -> names."""
    wanted: dict[str, set[str]] = {}
    for item in items:
        for module, names in HEADS[item.kind].items():
            wanted.setdefault(module, set()).update(names)
        if item.slug in fetches:
            function = fetches[item.slug].partition("(")[0]
            wanted.setdefault("utils.download", set()).add(function)
    return wanted


def item_test(item: Item) -> str:
    """Return the test file of an item.

    That of a data set is complete. The others fail until somebody says what is to come out.
    """
    module, use = module_of(item.file), item.symbol
    if use.lower().startswith("test"):  # under its own name pytest would take it for a test
        package, _, last = module.rpartition(".")
        wanted, use = {package: (last,)}, f"{last}.{use}"
    else:
        wanted = {module: (use,)}
    whole = item.kind == "dataset"
    template = environment().get_template(f"item/test_{'dataset' if whole else 'item'}.py.jinja")
    told = f"Not tested yet: {{{use}.__name__}}"
    return template.render(
        item=item,
        use=use,
        doc=docstring(f"{item.name}: does it what the plan says?"),
        imports=import_lines(wanted if whole else {"pytest": (), **wanted}),
        advice="" if whole else docstring(_TO_TEST[item.kind], "    "),
        unwritten=call("    ", "pytest.fail", f'f"{told}"'),
    )


def docstring(text: str, indent: str = "") -> str:
    """Return `text` as a docstring: cleaned, wrapped, raw where it holds a backslash."""
    width = WIDTH - len(indent)
    first, *others = _clean(text).split("\n")
    lines = _wrapped(first, width - 4) + [part for line in others for part in _wrapped(line, width)]
    head = f'{indent}{"r" if any(chr(92) in line for line in lines) else ""}"""'
    if lines[0].startswith('"'):
        lines[0] = f" {lines[0]}"
    if len(lines) == 1 and len(lines[0]) <= width - 7 and lines[0][-1] not in '"\\':
        return f'{head}{lines[0]}"""'
    rest = [f"{indent}{line}".rstrip() for line in lines[1:]]
    return "\n".join([head + lines[0], *rest, f'{indent}"""'])


def quoted(text: str) -> str:
    """Return a string literal, in double quotes unless they would need more escapes."""
    mark = "'" if text.count('"') > text.count("'") else '"'
    escaped = _printable(text).replace("\\", "\\\\").replace(mark, f"\\{mark}")
    return f"{mark}{escaped}{mark}"


def call(indent: str, function: str, argument: str) -> str:
    """Return `function(argument)` as one line, or as three where it is too long."""
    line = f"{indent}{function}({argument})"
    if len(line) <= WIDTH:
        return line
    return f"{indent}{function}(\n{indent}    {argument}\n{indent})"


def import_lines(wanted: Mapping[str, Iterable[str]]) -> list[str]:
    """Return sorted imports: module -> names, or no names for the module itself.

    What is installed comes first, then an empty line and what the project holds itself.
    """
    groups: tuple[list[str], list[str]] = ([], [])
    for module in sorted(wanted, key=_natural):
        groups[module.partition(".")[0] not in INSTALLED].append(
            _import_line(module, wanted[module])
        )
    installed, own = groups
    return [*installed, "", *own] if installed and own else installed + own


def _import_line(module: str, names: Iterable[str]) -> str:
    names = sorted(set(names), key=name_order)
    if not names:
        return f"import {module}"
    line = f"from {module} import {', '.join(names)}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"from {module} import (", *(f"    {name}," for name in names), ")"])


def name_order(name: str) -> tuple[int, list[tuple[int, int]]]:
    """Sort key of names in an import: constants, classes, the rest."""
    kind = 0 if len(name) > 1 and name.isupper() else 1 if name[:1].isupper() else 2
    return kind, _natural(name)


def module_of(file: str) -> str:
    """Return "model.tabm" for "model/tabm.py"."""
    return ".".join(PurePosixPath(file).with_suffix("").parts)


def _definition(item: Item) -> str:
    """Return what the plan says of an item, as the text of a docstring."""
    end = "" if item.name[-1:] in ".?!…" else "."
    parts = [item.name + end]
    if item.text.strip():
        parts.append(textwrap.dedent(item.text.expandtabs(4)).strip("\n"))
    if item.formulas:
        several = len(item.formulas) > 1
        parts.append("Formulas of the plan:" if several else "Formula of the plan:")
        parts += [
            textwrap.indent(f"$$ {textwrap.dedent(formula.text).strip()} $$", "    ")
            for formula in item.formulas
        ]
    fields = [
        f"    {key}: {value}" for key, value in item.fields.items() if key not in _TOLD_ELSEWHERE
    ]
    if fields:
        parts.append("\n".join(["Fields of the plan:", *fields]))
    return "\n\n".join(parts)


def _unwritten(item: Item, fetch: str) -> str:
    """Return the argument of the error that an item raises until it is written."""
    name = textwrap.shorten(_printable(item.name), 50, placeholder=" …")
    if item.kind != "dataset":
        return quoted(f"{name}: {_TO_WRITE[item.kind]}")
    name = name.replace("{", "{{").replace("}", "}}")
    return "f" + quoted(
        f"{name}: read {'{path}' if fetch else 'it'} into Splits, by seed {{seed}}."
    )


def _clean(text: str) -> str:
    """Return text that may stand in a docstring: no control characters, no closing quotes."""
    lines = (_printable(line.expandtabs(4)).rstrip() for line in text.splitlines())
    return "\n".join(lines).strip().replace('"""', "'''") or "No words."


def _printable(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f]", " ", text)


def _wrapped(line: str, width: int) -> list[str]:
    """Return the line, broken at spaces where it is too long, with its indent kept."""
    if len(line) <= width:
        return [line]
    words = line.lstrip()
    lead = line[: len(line) - len(words)]
    return textwrap.wrap(
        words,
        width,
        initial_indent=lead,
        subsequent_indent=lead + ("  " if words.startswith(("- ", "* ")) else ""),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _natural(name: str) -> list[tuple[int, int]]:
    """Sort key that puts layer2 before layer10, and does not look at capitals."""
    parts = re.findall(r"\d+|\D", name.lower())
    return [(ord("0"), int(part)) if part.isdigit() else (ord(part), 0) for part in parts]
