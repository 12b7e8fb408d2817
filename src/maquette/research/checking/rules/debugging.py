"""Nothing that helped to debug is left behind.

Debuggers and `set_detect_anomaly(True)` are reported everywhere. Prints are reported outside
run.py and tests/ when they show what only a person at work wants to see: shapes, types, `{x=}`, a
bare value, or a bare word such as "here". A print of a sentence with values is progress, a print
with `file=` is meant for somebody, and logging may say anything.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from maquette.research.checking.rules.base import Finding, Project
from maquette.research.checking.sources import Source, calls, dotted

DEBUGGERS = frozenset({"pdb", "ipdb", "pudb", "wdb", "web_pdb", "icecream"})
_ANOMALY = frozenset(
    {"torch.autograd.set_detect_anomaly", "torch.autograd.detect_anomaly"}
    | {"torch.autograd.anomaly_mode.set_detect_anomaly"}
)
_PRINTS = frozenset({"print", "pprint.pprint", "pprint.pp", "rich.print"})
_INNARDS = frozenset({"shape", "dtype", "ndim", "grad", "requires_grad"})
_QUESTIONS = frozenset({"size", "dim", "type", "id", "stride"})
_OWN_NAME = re.compile(r"\{[^{}=!<>]+=\s*(?:[!:][^{}]*)?\}")  # {x=}, which the tree does not show
_PROGRESS = frozenset({"done", "finished", "ok", "saved", "training", "testing", "evaluating"})
_DELETE = "Delete the line."


def debugging(project: Project) -> Iterator[Finding]:
    """Report debuggers, anomaly detection and prints of innards."""
    for source in project.sources:
        found = dict(_left_behind(source))
        for line in sorted(found):
            message, remedy = found[line]
            yield Finding(
                rule="debugging",
                path=f"project/{source.name}",
                line=line,
                message=message,
                remedy=remedy,
            )


def _left_behind(source: Source) -> Iterator[tuple[int, tuple[str, str]]]:
    """Yield (line, (message, remedy))."""
    for item in source.imports:
        if item.module.partition(".")[0] in DEBUGGERS:
            yield item.line, (f"This imports the debugger {item.module}.", _DELETE)
    may_print = source.is_test or source.name == "run.py"
    for name, call in calls(source):
        if name == "breakpoint" or name.partition(".")[0] in DEBUGGERS or name == "IPython.embed":
            yield call.lineno, ("A breakpoint is left here.", _DELETE)
        elif name in _ANOMALY and not _is_false(call):
            slow = "Anomaly detection is on, which makes every backward pass slow."
            yield call.lineno, (slow, _DELETE)
        elif name in _PRINTS and not may_print and (shown := _innards(call, source)):
            message = f"A debugging print is left here: it shows {shown}."
            yield call.lineno, (message, "Delete it, or say it with the logging module.")


def _is_false(call: ast.Call) -> bool:
    values = [*call.args, *(keyword.value for keyword in call.keywords)]
    return bool(values) and isinstance(values[0], ast.Constant) and values[0].value is False


def _innards(call: ast.Call, source: Source) -> str | None:
    """Say what a print shows that only a person at work wants to see; None for progress."""
    for node in (inner for argument in call.args for inner in ast.walk(argument)):
        if isinstance(node, ast.Attribute) and node.attr in _INNARDS:
            return f"the {node.attr} of {ast.unparse(node.value)}"
        if isinstance(node, ast.Call):
            name = dotted(node.func, source.names) or ""
            last = node.func.attr if isinstance(node.func, ast.Attribute) else name
            if last in _QUESTIONS:
                return f"{ast.unparse(node)}"
    if not call.args or any(keyword.arg == "file" for keyword in call.keywords):
        return None
    if any(_says_its_name(argument, source) for argument in call.args):
        return "a variable with its name ({x=})"
    if all(isinstance(part, ast.Name | ast.Attribute | ast.Subscript) for part in call.args):
        return f"a bare value, {ast.unparse(call.args[0])}"
    return _bare_word(call.args)


def _says_its_name(node: ast.expr, source: Source) -> bool:
    if not isinstance(node, ast.JoinedStr):
        return False
    written = ast.get_source_segment(source.text, node) or ""
    return bool(_OWN_NAME.search(written.replace("{{", "")))


def _bare_word(arguments: list[ast.expr]) -> str | None:
    only = arguments[0]
    if len(arguments) > 1 or not isinstance(only, ast.Constant) or not isinstance(only.value, str):
        return None
    words = only.value.strip(" .!*-=#>").split()
    if len(words) != 1 or words[0].lower().strip(".…") in _PROGRESS:
        return None
    return f"a bare word, {only.value!r}"
