"""report.html of a search: how it went, what mattered, every trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from maquette.evaluation.plain_page import Block, code, notice, plots, table, wide, write_page
from maquette.evaluation.search_plots import (
    Axis,
    Tried,
    history_plot,
    importance_plot,
    parallel_plot,
    slice_plot,
)
from maquette.evaluation.svg import number
from maquette.tuning.space import Choices, Scalar, Space, Span
from maquette.tuning.study import Trial
from maquette.tuning.trial import shown


def write_search_page(
    path: Path,
    *,
    name: str,
    trials: Sequence[Trial],
    best: Trial,
    space: Space,
    monitor: str,
    larger_is_better: bool,
    importance: Mapping[str, float],
    recipe_yaml: str,
    commands: Mapping[str, str],
    notes: Sequence[str],
) -> None:
    """Write the page of a search in which at least one trial ran to its end."""
    tried = [_tried(trial) for trial in trials if trial.state != "running"]
    axes = [_axis(key, values) for key, values in space.items()]
    first = next((trial for trial in trials if trial.state == "complete"), best)
    gain = "" if first is best else f", where the first trial had {number(first.value or 0.0, 4)}"
    blocks = [
        Block(
            id="search",
            heading="Search",
            lead="A dot is a trial; hollow ones were stopped early. The line is the best so far.",
            content=[
                notice(notes),
                plots(
                    [
                        history_plot(tried, monitor=monitor, larger_is_better=larger_is_better),
                        *([importance_plot(importance)] if importance else []),
                    ]
                ),
            ],
        ),
        Block(
            id="keys",
            heading="Keys",
            lead=f"How {monitor} depends on each key, over the trials that ran to their end.",
            content=[
                plots(
                    [
                        slice_plot(tried, axis, monitor=monitor, larger_is_better=larger_is_better)
                        for axis in axes
                    ]
                ),
                wide(
                    parallel_plot(tried, axes, monitor=monitor, larger_is_better=larger_is_better),
                    heading="All keys at once",
                ),
            ],
        ),
        Block(
            id="trials",
            heading="Trials",
            lead="In the order they began.",
            content=[_trial_table(trials, best, list(space), monitor)],
        ),
        Block(
            id="recipe-heading",
            heading="Best recipe",
            lead="Ready to be trained.",
            content=[code("recipe", recipe_yaml)],
        ),
        Block(
            id="next",
            heading="Next",
            lead="",
            content=[
                code(f"command-{index}", command) for index, command in enumerate(commands.values())
            ],
        ),
    ]
    write_page(
        path,
        title=name,
        subtitle=f"Search of {len(space)} recipe keys by {monitor}",
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        verdict=f"{monitor} {number(best.value or 0.0, 4)} in trial {best.number}, the best of "
        f"{len(tried)}{gain}.",
        blocks=blocks,
    )


def _trial_table(trials: Sequence[Trial], best: Trial, keys: Sequence[str], monitor: str) -> str:
    header = ["Trial", monitor, "Epochs", "Seconds", *(key.rpartition(".")[2] for key in keys)]
    rows = [
        [
            str(trial.number),
            _outcome(trial),
            str(trial.curve[-1][0]) if trial.curve else "",
            f"{trial.seconds:.1f}",
            *(shown(trial.values.get(key, "")) for key in keys),
        ]
        for trial in trials
    ]
    place = next(index for index, trial in enumerate(trials, 1) if trial.number == best.number)
    return table([header, *rows], strong=place)


def _outcome(trial: Trial) -> str:
    if trial.state == "complete":
        return number(trial.value or 0.0, 4)
    if trial.state == "failed":
        return f"failed: {(trial.reason or 'unknown').splitlines()[0][:80]}"
    return "stopped early" if trial.state == "pruned" else "under way"


def _tried(trial: Trial) -> Tried:
    values = {key: _number_or_text(value) for key, value in trial.values.items()}
    return Tried(number=trial.number, values=values, value=trial.value, curve=trial.curve)


def _number_or_text(value: Scalar) -> float | str:
    return str(value) if isinstance(value, bool) else value


def _axis(key: str, values: Span | Choices) -> Axis:
    if isinstance(values, Choices):
        return Axis(key=key, choices=tuple(map(str, values.values)))
    return Axis(key=key, low=values.low, high=values.high, log=values.log)
