"""The sections of a report that do not need the full run: components, the validation, the record.

The form is that of the implementation guide: Components Implemented, Quick Validation Results,
Deviations from Plan, Known Issues; a section Record says what all of it was measured on.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from maquette.research.judging.verdict import groups
from maquette.research.notes import DEVIATIONS, KNOWN_ISSUES, read_notes
from maquette.research.numbers.marked import section
from maquette.research.planning.plan import Item, Plan
from maquette.research.records import RunRecord, Training
from maquette.research.reporting.report_words import code, number, plain, table
from maquette.research.validating.attempts import Attempt
from maquette.research.workspace import Workspace


def components(plan: Plan, workspace: Workspace) -> list[str]:
    """List every item of the plan: where its code is, what it is, which test covers it."""
    notes = read_notes(workspace.notes_file)
    lines = ["## Components Implemented", ""]
    for item in plan.items:
        skipped = notes.deviation(item.name) is not None
        lines.append(
            f"- **{plain(item.name)}** ({item.kind}): {_component(item, workspace, skipped)}"
        )
    return [*lines, ""]


def _component(item: Item, workspace: Workspace, has_deviation: bool) -> str:
    words = _description(workspace.project / item.file, item)
    see = f" See {DEVIATIONS}." if has_deviation else ""
    if words is None:
        return f"there is no {code(item.symbol)} in {code(f'project/{item.file}')}.{see}"
    place = f"{code(item.symbol)} in {_file(item.file)}"
    has_test = (workspace.project / item.test_file).is_file()
    test = f"Tested by {_file(item.test_file)}." if has_test else "It has no test."
    return f"{place}. {plain(words)} {test}{see}".replace("  ", " ")


def _file(path: str) -> str:
    return f"[{path}](project/{path})"


def _description(path: Path, item: Item) -> str | None:
    """Return what a docstring says first, "" without one; None when nothing has the symbol.

    Where its first line is the item's name, as `new` writes it, that is the sentence after it.
    """
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.name == item.symbol:
            first, *rest = (ast.get_docstring(node) or "").split("\n\n")
            said = first.partition("\n")[0]
            definition = " ".join(rest[0].split()) if rest else ""
            if said.rstrip(".") != item.name or not definition or definition.endswith(":"):
                return said
            return re.split(r"(?<=[.!?]) ", definition, maxsplit=1)[0]
    return None


def quick_validation(attempt: Attempt | None, run: RunRecord | None, folder: str) -> list[str]:
    """Write what the passed validation measured; every number links into its two records.

    Args:
        folder: the attempt's folder, relative to the report.
    """
    lines = ["## Quick Validation Results", ""]
    if attempt is None or run is None:
        return [*lines, "No validation has passed.", ""]
    of_run, of_attempt = f"{folder}/run.json", f"{folder}/record.json"
    record = attempt.record
    lines.append(f"- Epochs: {number(run.epochs, of_run, 'epochs')}")
    lines += ["- Final training loss:", *_losses(run, of_run)]
    lines += ["- Validation metrics:", *_metrics(run, of_run)]
    for name, key, suffix in (
        ("Runtime", "seconds", " s"),
        ("CPU memory", "peak_memory_gib", " GiB"),
    ):
        value = number(record.get(key), of_attempt, key, suffix=suffix)
        lines.append(f"- {name}: {value}{' at its peak' if key != 'seconds' else ''}")
    lines.append(f"- GPU memory: {_gpu(attempt, of_attempt)}")
    tests = record.get("tests")
    if tests:
        passed, failed = (number(tests[k], of_attempt, "tests", k) for k in ("passed", "failed"))
        lines.append(f"- Tests of the project: {passed} passed, {failed} failed")
    return [*lines, ""]


def _gpu(attempt: Attempt, of_attempt: str) -> str:
    key = "gpu_peak_memory_gib"
    peak = attempt.record.get(key)
    if peak is not None:
        return f"{number(peak, of_attempt, key, suffix=' GiB')} at its peak"
    there = (attempt.record.get("machine") or {}).get("gpu")
    return "none used" if there else "no GPU on this machine"


def _losses(run: RunRecord, file: str) -> Iterator[str]:
    """Yield a line per model and data set: the last and the first loss of each seed."""
    number_of = _numbers(run)

    def loss(training: Training) -> str:
        if not training.losses:
            return "not trained by epochs"
        place = ("trainings", number_of[id(training)], "losses")
        last = len(training.losses) - 1
        first, final = (number(training.losses[at], file, *place, at) for at in (0, last))
        return f"{final} (from {first})" if last else final

    for (dataset, model), trainings in groups(run.trainings).items():
        told = list(dict.fromkeys(map(loss, trainings)))
        yield f"  - {_who(model, dataset, trainings)}: {', '.join(told)}"


def _metrics(run: RunRecord, file: str) -> Iterator[str]:
    """Yield a line per model, data set and metric: the value of each seed, then the trivial one."""
    number_of = _numbers(run)
    for (dataset, model), trainings in groups(run.trainings).items():
        for metric in dict.fromkeys(metric for t in trainings for metric in t.metrics):
            values, trivial = [], []
            for training in trainings:
                at = ("trainings", number_of[id(training)])
                if metric in training.metrics:
                    values.append(number(training.metrics[metric], file, *at, "metrics", metric))
                if training.baseline.get(metric) is not None:
                    trivial.append(number(training.baseline[metric], file, *at, "baseline", metric))
            line = f"  - {code(metric)} of {_who(model, dataset, trainings)}: {', '.join(values)}"
            yield line + (f"; trivial answer {', '.join(trivial)}" if trivial else "")


def _numbers(run: RunRecord) -> dict[int, int]:
    """Return where each training stands in the record, by its identity: two may be equal."""
    return {id(training): position for position, training in enumerate(run.trainings)}


def _who(model: str, dataset: str, trainings: Sequence[Training]) -> str:
    seeds = ", ".join(code(str(training.seed)) for training in trainings)
    plural = "seed" if len(trainings) == 1 else "seeds"
    return f"{code(model)} on {code(dataset)} ({plural} {seeds})"


def persons_words(workspace: Workspace) -> list[str]:
    """Copy what a person wrote under Deviations from Plan and Known Issues of notes.md.

    `read_notes` has refused by then what is no text.
    """
    file = workspace.notes_file
    text = file.read_text(encoding="utf-8-sig") if file.is_file() else ""
    lines = []
    for heading in (DEVIATIONS, KNOWN_ISSUES):
        words = re.sub(r"<!--.*?-->", "", section(text, heading) or "", flags=re.DOTALL).strip()
        lines += [f"## {heading}", "", words or "- None.", ""]
    return lines


def record_of(
    attempts: Sequence[Attempt], attempt: Attempt | None, commands: Sequence[tuple[str, str, str]]
) -> list[str]:
    """Write what was run on what: all attempts, checksums, commands.

    Args:
        attempt: the one that the report speaks of.
        commands: (what, command, checksum of its record) of the runs that the report quotes.
    """
    lines = ["## Record", ""]
    rows = []
    for one in attempts:
        file = f"attempts/{one.folder.name}/record.json"
        failed = ", ".join(plain(v.check) for v in one.verdicts if not v.passed)
        rows.append(
            [
                f"[attempt {one.folder.name}]({file})",
                "passed" if one.passed else f"failed: {failed}",
                plain(one.diagnosis or "–"),
                number(one.record.get("seconds"), file, "seconds", suffix=" s"),
            ]
        )
    if rows:
        lines += table(["attempt", "outcome", "diagnosis", "run"], rows)
    for what, command, checksum in commands:
        lines.append(f"- {what}: {code(command)}, its record has sha256 {code(checksum)}")
    if attempt is not None:
        lines.append(f"- Plan: sha256 {code(attempt.plan_sha256)}")
        lines.append(f"- Project: sha256 {code(attempt.project_sha256)}")
        for key, value in (attempt.record.get("machine") or {}).items():
            lines.append(f"- Machine, {plain(str(key))}: {code(str(value))}")
    return [*lines, ""] if len(lines) > 2 else [*lines, "There is none yet.", ""]
