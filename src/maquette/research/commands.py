"""The verbs of `maquette research`. Each parses, calls one function, prints.

A check that fails, in `check`, `validate` and `lint`, ends with exit code 1, like an error.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maquette.errors import UsageError

if TYPE_CHECKING:
    from maquette.research.running.sandbox import Limits

app = typer.Typer(
    help="From a written plan to a validated, reported experiment.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
plan_app = typer.Typer(
    help="The plan: one to fill in, and whether one can be read.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(plan_app, name="plan")

WorkspaceFolder = Annotated[
    Path, typer.Argument(metavar="WORKSPACE", help="The folder that `research new` made.")
]
Epochs = Annotated[int, typer.Option(help="Epochs of the short run, 2 at least.")]
TimeLimit = Annotated[
    float, typer.Option(help="Seconds that a program may run; then it is ended.", metavar="SECONDS")
]
MemoryLimit = Annotated[
    float,
    typer.Option(help="GiB that it and its children may hold; then it is ended.", metavar="GIB"),
]
GpuMemoryLimit = Annotated[
    float | None,
    typer.Option(help="GiB that its tensors may hold on GPUs; more is a failure.", metavar="GIB"),
]


@plan_app.command("template")
def plan_template() -> None:
    """Print a plan to fill in; it is itself a small plan that can be read.

    Example: maquette research plan template > plan_res.md
    """
    from maquette.research.planning.template import template

    print(template(), end="")


@plan_app.command("check")
def plan_check(
    plan: Annotated[Path, typer.Argument(help="A plan in Markdown.")],
) -> None:
    """Read a plan, and list what it promises: every item with its code and its test.

    Example: maquette research plan check plan_res.md
    """
    from maquette.research.planning.plan_reading import read_plan

    read = read_plan(plan)
    for warning in read.warnings:
        print(f"note: {warning}")
    print(f"{plan}: {read.title}")
    for item in read.items:
        print(f"{item.kind:<8}{item.name}: {item.file}:{item.symbol}, tested in {item.test_file}")


@app.command()
def new(
    workspace: WorkspaceFolder,
    plan: Annotated[
        Path | None, typer.Option(help="The plan; it is copied into the workspace.")
    ] = None,
    update: Annotated[
        bool,
        typer.Option("--update", help="Add what the workspace's own plan has new; change nothing."),
    ] = False,
) -> None:
    """Lay out a workspace: one file and one test for every item of the plan, to be written.

    Example: maquette research new trees --plan plan_res.md
    """
    if (plan is None) != update:
        raise UsageError(
            "Give either --plan PLAN to make a workspace, or --update to add to one what is new in "
            "its own plan_res.md."
        )
    from maquette.research.scaffolding.scaffold import create
    from maquette.research.scaffolding.scaffold import update as add_new

    for line in add_new(workspace) if plan is None else create(workspace, plan):
        print(line)


@app.command()
def check(workspace: WorkspaceFolder) -> None:
    """Hold a project against its plan without running it; list what is not as it should be.

    Example: maquette research check trees
    """
    from maquette.research.checking.check import check_workspace, failed
    from maquette.research.workspace import Workspace

    findings = check_workspace(Workspace.open(workspace))
    for finding in findings:
        print(finding)
    if failed(findings):
        raise typer.Exit(1)
    print(f"{workspace}: everything of the plan is there")


@app.command()
def validate(
    workspace: WorkspaceFolder,
    epochs: Epochs = 2,
    time_limit: TimeLimit = 1800,
    memory_limit: MemoryLimit = 8,
    gpu_memory_limit: GpuMemoryLimit = None,
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh/--no-fresh",
            help="In an environment made from requirements.txt, or with this interpreter.",
        ),
    ] = True,
) -> None:
    """Run the project's tests and a short training on real data; keep what was seen as an attempt.

    Example: maquette research validate trees
    """
    from maquette.research.validating.validate import validate as validate_workspace
    from maquette.research.workspace import Workspace

    attempt = validate_workspace(
        Workspace.open(workspace),
        epochs=epochs,
        limits=limits_of(time_limit, memory_limit, gpu_memory_limit),
        fresh=fresh,
    )
    for line in attempt.lines():
        print(line)
    if not attempt.passed:
        raise typer.Exit(1)


@app.command()
def report(
    workspace: WorkspaceFolder,
    draft: Annotated[
        bool, typer.Option("--draft", help="Write also what is not validated, and say so.")
    ] = False,
) -> None:
    """Write ml_res.md from the records of the validation and of the full run.

    Example: maquette research report trees
    """
    from maquette.research.reporting.report import write_report
    from maquette.research.workspace import Workspace

    for line in write_report(Workspace.open(workspace), draft=draft):
        print(line)


@app.command()
def lint(
    paths: Annotated[list[Path], typer.Argument(help="Markdown files, or folders of them.")],
    strict: Annotated[
        bool, typer.Option("--strict", help="Every number of a report's results needs a record.")
    ] = False,
    fix: Annotated[bool, typer.Option("--fix", help="Write what the records say.")] = False,
) -> None:
    """Compare the numbers of texts with the records that they link to.

    Example: maquette research lint README.md docs
    """
    from maquette.research.numbers.lint import check_numbers
    from maquette.research.numbers.lint import fix as write_numbers

    checked = check_numbers(paths, strict=strict)
    if fix:
        for line in write_numbers(checked.problems):
            print(line)
        checked = check_numbers(paths, strict=strict)
    for problem in checked.problems:
        print(problem)
    if checked.problems:
        raise typer.Exit(1)
    print(f"{checked.numbers} numbers in {checked.files} files are those of their records")


def limits_of(seconds: float, gib: float, gpu_gib: float | None) -> Limits:
    """Return the limits that --time-limit, --memory-limit and --gpu-memory-limit ask for.

    Raises:
        UsageError: one is not above zero.
    """
    from maquette.research.running.sandbox import Limits

    given = {"--time-limit": seconds, "--memory-limit": gib, "--gpu-memory-limit": gpu_gib}
    for option, value in given.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            such = "1800" if option == "--time-limit" else "8"
            raise UsageError(f"{option} is {value:g}, expected a number above 0, such as {such}.")
    return Limits(
        seconds=seconds,
        memory_bytes=max(1, int(gib * 2**30)),
        gpu_memory_bytes=None if gpu_gib is None else max(1, int(gpu_gib * 2**30)),
    )
