"""The verbs. Each parses, calls one function, prints: results on stdout, progress on stderr.

Exit codes: 0 done, 1 data or run error, 2 usage, 130 interrupted, 143 terminated. Whatever a
command needs is imported inside it, so `maquette --help` answers at once.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from maquette.device import apple
from maquette.errors import MaquetteError, UsageError
from maquette.research import commands as research

app = typer.Typer(
    name="maquette",
    help="A small workshop for machine learning: a recipe goes in, a bundle comes out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

data_app = typer.Typer(
    help="Known data sets: what there is, and where one lies on this machine.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(data_app, name="data")
app.add_typer(research.app, name="research")

Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Changes to the recipe: key=value, for example training.epochs=5."),
]
RunsDir = Annotated[
    Path, typer.Option(help="The folder of runs, whose registry is asked (default tracking).")
]


@app.command()
def check(
    source: Annotated[str, typer.Argument(help="A recipe, a table, or a folder of images.")],
    overrides: Overrides = None,
    schema: Annotated[
        Path | None,
        typer.Option(help="JSON Schema of one row, for a table given without a recipe."),
    ] = None,
    infer_schema: Annotated[
        Path | None,
        typer.Option(help="Write the schema that the data suggests to this file."),
    ] = None,
) -> None:
    """Read and validate a recipe and its data; list every violation with its place.

    Example: maquette check configs/iris.yaml
    """
    from maquette.checking import check_source

    for line in check_source(source, overrides or [], schema=schema, infer_schema=infer_schema):
        print(line)


@app.command()
def train(
    recipe: Annotated[
        Path | None,
        typer.Argument(help="A recipe (YAML)."),
    ] = None,
    overrides: Overrides = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Continue the run in this folder instead of starting a new one."),
    ] = None,
) -> None:
    """Train, evaluate, and write the bundle and the report; the last line is the run folder.

    Example: maquette train configs/iris.yaml training.epochs=5
    """
    if (recipe is None) == (resume is None):
        raise UsageError(
            "Give either a recipe to start a run, or --resume RUN_FOLDER to continue one."
        )
    from maquette.lifecycle import resume_run
    from maquette.lifecycle import train as train_recipe

    if resume is not None:
        run = resume_run(resume)
    else:
        assert recipe is not None, "checked above"
        run = train_recipe(recipe, overrides or [])
    for line in run.lines():
        print(line)
    print(run.folder)


@app.command()
def validate(
    recipe: Annotated[Path, typer.Argument(help="A recipe (YAML).")],
    overrides: Overrides = None,
    epochs: research.Epochs = 2,
    time_limit: research.TimeLimit = 1800,
    memory_limit: research.MemoryLimit = 8,
    gpu_memory_limit: research.GpuMemoryLimit = None,
) -> None:
    """Train a recipe for two epochs within limits, and judge what it shows; leaves nothing behind.

    Example: maquette validate configs/iris.yaml
    """
    from maquette.research.validating.recipe_run import validate_recipe

    limits = research.limits_of(time_limit, memory_limit, gpu_memory_limit)
    run = validate_recipe(recipe, overrides or [], epochs=epochs, limits=limits)
    for line in run.lines():
        print(line)
    if not run.passed:
        raise typer.Exit(1)


@app.command()
def tune(
    recipe: Annotated[Path, typer.Argument(help="A recipe (YAML) with a section tune.")],
    overrides: Overrides = None,
    trials: Annotated[
        int | None,
        typer.Option(help="Recipes to try, those of earlier calls included."),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes that train at once.")] = 1,
    storage: Annotated[
        Path | None,
        typer.Option(help="The study, a SQLite file; by default RUNS_DIR/tuning/NAME.db."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="The best recipe; by default best.yaml in the study's folder."),
    ] = None,
) -> None:
    """Search recipe keys for the best validation metric; called again, the search goes on.

    Example: maquette tune configs/iris.yaml 'tune.space={training.batch_size: [8, 16]}' --trials 4
    """
    from maquette.tuning.search import tune as tune_recipe

    changes = [*(overrides or []), *([] if trials is None else [f"tune.trials={trials}"])]
    tuned = tune_recipe(recipe, changes, workers=workers, storage=storage, output=output)
    for line in tuned.lines():
        print(line)


@app.command()
def evaluate(
    bundle: Annotated[str, typer.Argument(help="A bundle, a run folder, or models:/NAME@ALIAS.")],
    data: Annotated[
        str | None,
        typer.Option(help="Other labelled data in the form of the training data."),
    ] = None,
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    sizes: Annotated[
        str | None,
        typer.Option(help="image_text: sides of the images to measure at: 48,64,96."),
    ] = None,
) -> None:
    """Measure a bundle on a split of its own data, or on other labelled data; prints JSON.

    Example: maquette evaluate runs/20260101T120000-iris-a1b2c3 --split valid
    """
    if sizes is None:
        from maquette.lifecycle import evaluate as evaluate_bundle

        print(json.dumps(evaluate_bundle(bundle, data=data, split=split), indent=2))
        return
    from maquette.lifecycle import evaluate_at_sizes

    found = evaluate_at_sizes(bundle, _sides(sizes), data=data, split=split)
    print(json.dumps(found, indent=2))


@app.command()
def predict(
    bundle: Annotated[str, typer.Argument(help="A bundle, a run folder, or models:/NAME@ALIAS.")],
    source: Annotated[Path, typer.Argument(help="A CSV or Parquet table, an image, or a folder.")],
    output: Annotated[Path, typer.Option(help="CSV for tables, JSON lines for images.")],
) -> None:
    """Predict a file: tables gain prediction and probability columns, images become JSON lines.

    Example: maquette predict runs/20260101T120000-iris-a1b2c3 flowers.csv --output answers.csv
    """
    from maquette.lifecycle import predict_file

    for line in predict_file(bundle, source, output):
        print(line)


@app.command()
def register(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    name: Annotated[
        str | None,
        typer.Option(help="Registered name; by default the recipe's."),
    ] = None,
) -> None:
    """Mirror a run to the tracking server and register its bundle as a new version.

    Example: maquette register runs/20260101T120000-iris-a1b2c3
    """
    from maquette.lifecycle import register as register_run

    print(register_run(run, name=name))


@app.command()
def promote(
    name: Annotated[str, typer.Argument(help="A registered model.")],
    version: Annotated[
        int | None,
        typer.Argument(help="The version; by default the challenger."),
    ] = None,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Make a version the champion, the one that is served.

    Example: maquette promote iris 2
    """
    from maquette.track.registry import promote as promote_version

    print(promote_version(name, version, runs_dir=runs_dir))


@app.command()
def rollback(
    name: Annotated[str, typer.Argument(help="A registered model.")],
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Make the previous champion the champion again.

    Example: maquette rollback iris
    """
    from maquette.track.registry import rollback as roll_back

    print(roll_back(name, runs_dir=runs_dir))


@app.command()
def models(runs_dir: RunsDir = Path("runs")) -> None:
    """List the registered models, their versions, aliases and metrics.

    Example: maquette models
    """
    from maquette.track.registry import list_models, render_models

    print(render_models(list_models(runs_dir=runs_dir)))


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Two or more run folders.")],
    html: Annotated[
        Path | None,
        typer.Option(help="Also write a page with plots of the metrics and training curves."),
    ] = None,
    domain: Annotated[
        bool, typer.Option("--domain", help="Also average the runs of each domain.")
    ] = False,
) -> None:
    """Put runs side by side: what they were, metrics with intervals, the recipe keys that differ.

    Example: maquette compare runs/20260101T120000-iris-a1b2c3 runs/20260101T120500-iris-d4e5f6
    """
    from maquette.comparing import compare_runs

    for line in compare_runs(runs, html=html, domains=domain):
        print(line)


@app.command()
def serve(
    bundles: Annotated[
        list[str], typer.Argument(help="Bundles, run folders, or models:/NAME@ALIAS.")
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
) -> None:
    """Serve bundles over HTTP: predictions, health, metrics, and a page to try them.

    Example: maquette serve runs/20260101T120000-iris-a1b2c3 --port 8000
    """
    try:
        from maquette.serve.run import serve as serve_bundles
    except ModuleNotFoundError as error:
        raise UsageError(
            f"Serving needs {error.name}, which is not installed: pip install 'maquette[serve]'."
        ) from None
    from maquette.lifecycle import locate

    serve_bundles([locate(bundle) for bundle in bundles], host=host, port=port)


@app.command()
def init(
    data: Annotated[Path, typer.Argument(help="A CSV or Parquet table, or a folder of images.")],
    target: Annotated[
        str | None,
        typer.Option(help="The column to predict; guessed when absent."),
    ] = None,
    output: Annotated[Path, typer.Option(help="The recipe to write.")] = Path("recipe.yaml"),
    force: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
) -> None:
    """Look at data and write a commented recipe for it that trains as it is.

    Example: maquette init data/sample/iris.csv --target species --output iris.yaml
    """
    from maquette.files import write_text
    from maquette.tasks import suggest_recipe

    if output.exists() and not force:
        raise UsageError(f"{output} exists; choose another --output, or --force to replace it.")
    write_text(output, suggest_recipe(data, target=target))
    print(f"{output} is ready: maquette train {output}")


@data_app.command("list")
def data_list(
    name: Annotated[
        str | None,
        typer.Argument(help="One data set, with source, licence and citation."),
    ] = None,
) -> None:
    """List the data sets that `catalogue:NAME` means in a recipe, or all that is known of one.

    Example: maquette data list openstax_figures
    """
    from maquette.data.catalogue_text import entry_lines, table_lines

    for line in table_lines() if name is None else entry_lines(name):
        print(line)


@data_app.command("get")
def data_get(
    name: Annotated[str, typer.Argument(help="A name that `maquette data list` shows.")],
) -> None:
    """Bring a data set into the cache, checked, and print where a recipe opens it.

    An interrupted download continues when the command runs again.

    Example: maquette data get digits
    """
    from maquette.data.catalogue import PREFIX, resolve

    print(resolve(PREFIX + name))


@app.command()
def export(
    bundle: Annotated[str, typer.Argument(help="A bundle, a run folder, or models:/NAME@ALIAS.")],
    output: Annotated[Path, typer.Option(help="The folder to write; it must not exist.")],
) -> None:
    """Write an image-text bundle in the Hugging Face format, which transformers loads.

    Example: maquette export runs/20260101T120000-figures-a1b2c3 --output clip
    """
    from maquette.exporting import export_bundle
    from maquette.lifecycle import locate

    for line in export_bundle(locate(bundle), output):
        print(line)


@app.command()
def doctor() -> None:
    """Print what this machine is and whether it computes right: device, memory, versions.

    Example: maquette doctor
    """
    from maquette.device import examine

    facts = examine()
    width = max(map(len, facts))
    for name, fact in facts.items():
        print(f"{name:<{width}}  {fact}")


def _sides(text: str) -> list[int]:
    """Read "48,64,96"."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--sizes is {text!r}, expected sides in pixels: 48,64,96.") from None


def _version(value: bool) -> None:
    if value:
        from maquette import __version__

        print(f"maquette {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A small workshop for machine learning: a recipe goes in, a bundle comes out."""


def main(arguments: list[str] | None = None) -> Any:
    """Run a command; every error a user can cause ends in one message and an exit code."""
    # All are read once, when torch is imported. Waiting threads sleep instead of spinning: beside
    # other work on the machine, a spinning thread holds the very core that the thread it waits for
    # needs. And large CPU tensors may get huge pages, which spares page faults.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    for name, value in apple.environment().items():
        os.environ.setdefault(name, value)
    try:
        app(args=arguments, prog_name="maquette")
    except MaquetteError as error:
        print(f"{_kind(error)}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output left (`maquette models | head`): not an error of ours.
        sys.stderr.close()
        sys.exit(0)


def _kind(error: MaquetteError) -> str:
    return "usage" if error.exit_code == UsageError.exit_code else "error"
