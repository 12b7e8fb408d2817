"""The command line. A command reads its arguments, calls one function and prints the answer.

Answers go to stdout; progress, warnings and errors to stderr. Exit codes: 0 all well, 1 something
that the message says how to mend, 2 wrong usage, 130 and 143 stopped by SIGINT and SIGTERM.

Nothing heavy is imported before a command needs it, so `--help` answers at once.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from paraformer_asr import __version__
from paraformer_asr.errors import AsrError, Stopped

if TYPE_CHECKING:
    from paraformer_asr.config import Config

SPLITS = ("train", "valid", "test")
EPILOG = """\
examples:
  python -m paraformer_asr train --config configs/tiny.yaml
  python -m paraformer_asr train --config configs/default.yaml seed=1 train.steps=500
  python -m paraformer_asr evaluate --run runs/RUN --split test
  python -m paraformer_asr infer --run runs/RUN recording.wav --timestamps
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `arguments` defaults to those of the process."""
    # PyTorch reads these once, when it is imported. Huge pages spare the price of fresh small ones;
    # passive waiting leaves the cores of a busy machine to threads that have work.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    options = read_arguments(arguments)
    try:
        status: int | None = options.run_command(options)
        sys.stdout.flush()  # a closed pipe shows here and not at the interpreter's end
    except Stopped as stopped:
        return say_error(str(stopped), code=stopped.exit_code, prefix="")
    except AsrError as error:
        return say_error(str(error))
    except KeyboardInterrupt:
        return say_error("interrupted", code=130, prefix="")
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None and error.errno != errno.ENOSPC:
            raise
        return say_error(f"{error}. Check the path, its permissions and the space on the disk.")
    except (RuntimeError, MemoryError) as error:
        from paraformer_asr.devices import explain_out_of_memory

        reason = explain_out_of_memory(error)
        if reason is None:
            raise
        return say_error(reason)
    return status or 0


def say_error(message: str, *, code: int = 1, prefix: str = "error: ") -> int:
    print(f"{prefix}{message}", file=sys.stderr)
    return code


def say_warning(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)


def read_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse; `key=value` may stand anywhere, which argparse alone allows in one place only."""
    parser = build_parser()
    options, unknown = parser.parse_known_args(arguments)
    settings = [word for word in unknown if "=" in word and not word.startswith("-")]
    if len(settings) != len(unknown) or (settings and "overrides" not in options):
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if settings:
        options.overrides += settings
    return options


def configuration(options: argparse.Namespace) -> Config:
    from paraformer_asr.config import load_config

    return load_config(options.config, options.overrides)


def train(options: argparse.Namespace) -> None:
    from paraformer_asr import train as training

    if options.resume is None:
        print(training.train(configuration(options), progress=not options.quiet))
    elif options.overrides:
        raise AsrError(
            f"a resumed run keeps its settings; leave {' '.join(options.overrides)} out, or start "
            f"a new run with train.init_from={options.resume}."
        )
    else:
        print(training.resume(options.resume, progress=not options.quiet))


def evaluate(options: argparse.Namespace) -> None:
    from paraformer_asr.checkpoints import load_model
    from paraformer_asr.evaluate import evaluate_run

    run: Path = options.run
    out = options.out or (run if run.is_dir() else run.parent)
    evaluate_run(load_model(run, options.device), options.split, out=out)


def infer(options: argparse.Namespace) -> int:
    from paraformer_asr.checkpoints import load_model

    loaded = load_model(options.run, options.device)
    if options.stream:
        from paraformer_asr.stream_files import stream_paths

        report = stream_paths(loaded, options.inputs, options.out, timestamps=options.timestamps)
    elif "-" in map(str, options.inputs):
        raise AsrError("- reads sound from stdin as it comes; add --stream.")
    else:
        from paraformer_asr.infer import infer_paths

        report = infer_paths(
            loaded,
            options.inputs,
            options.out,
            picture=options.picture,
            timestamps=options.timestamps,
        )
    for warning in report.warnings:
        say_warning(warning)
    for error in report.errors:
        say_error(error)
    return report.exit_code


def check(options: argparse.Namespace) -> None:
    from paraformer_asr.data.build import build_datasets, build_tokenizer

    config = configuration(options)
    datasets = build_datasets(config, warn=say_warning)
    for split, dataset in datasets.items():
        seconds = 0.01 * sum(dataset.lengths(0))
        print(f"{split}: {len(dataset)} utterances, {seconds / 60:.1f} minutes")
    tokenizer = build_tokenizer(config, datasets)
    print(f"vocabulary: {len(tokenizer.characters)} characters: {''.join(tokenizer.characters)}")


def preview(options: argparse.Namespace) -> None:
    from paraformer_asr.data.build import build_datasets
    from paraformer_asr.preview import preview as draw

    datasets = build_datasets(configuration(options), warn=say_warning)
    draw(datasets[options.split], options.out, options.count)
    print(options.out)


def export_toy(options: argparse.Namespace) -> None:
    from paraformer_asr.data.export import write_features
    from paraformer_asr.data.toy import ToySpeech

    config = configuration(options)
    dataset = ToySpeech(
        config.data.toy, config.features.num_mels, split=options.split, seed=config.seed
    )
    write_features(dataset, options.out, count=options.count)
    print(options.out)


def convert(options: argparse.Namespace) -> None:
    from paraformer_asr.convert import convert_file

    print(convert_file(options.checkpoint, options.out))


def summarize(options: argparse.Namespace) -> None:
    from paraformer_asr.summarize import summarize as gather

    print(gather(options.runs, options.out, baseline=options.baseline))


def profile(options: argparse.Namespace) -> None:
    from paraformer_asr.profiling import profile as measure

    report = measure(
        configuration(options),
        seconds_of_audio=options.seconds,
        batch=options.batch,
        repeats=options.repeats,
    )
    print(report.table())


def reproduce(options: argparse.Namespace) -> int:
    from paraformer_asr.reproduce import reproduce as train_twice

    comparison = train_twice(configuration(options))
    print(comparison)
    return int(not comparison.equal)


def serve(options: argparse.Namespace) -> None:
    from paraformer_asr.checkpoints import load_model
    from paraformer_asr.service import serve as answer

    answer(load_model(options.run, options.device), options.host, options.port)


def build_parser() -> argparse.ArgumentParser:
    """All commands and their arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m paraformer_asr",
        description="Paraformer speech recognition, from scratch.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"paraformer_asr {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(function: Callable[..., int | None], text: str) -> argparse.ArgumentParser:
        name = function.__name__.replace("_", "-")
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run_command=function)
        return command

    command = add(train, "Train a configuration, or go on with a run; prints the run folder.")
    which = command.add_mutually_exclusive_group(required=True)
    which.add_argument("--config", type=Path, help="YAML file to start a new run from")
    which.add_argument("--resume", type=Path, metavar="RUN", help="run folder to go on with")
    command.add_argument("--quiet", action="store_true", help="show no progress bar")
    add_settings(command)

    command = add(evaluate, "Error rates, alignments and speed of a run on a split.")
    add_run(command)
    command.add_argument("--split", choices=SPLITS, default="test")
    command.add_argument("--out", type=Path, help="folder for the tables (the run's own)")

    command = add(infer, "Write down what WAV files, folders of them or .npy features say.")
    add_run(command)
    command.add_argument("inputs", nargs="+", metavar="INPUT", help=".wav, .npy, folder or glob")
    command.add_argument("--out", type=Path, default=Path("transcripts"), help="(transcripts)")
    command.add_argument("--timestamps", action="store_true", help="print when each token was said")
    command.add_argument("--picture", action="store_true", help="draw what the model sees")
    command.add_argument(
        "--stream",
        action="store_true",
        help="print the text while it grows; - reads 16-bit samples from stdin",
    )

    command = add(check, "Open every recording and list everything that is wrong at once.")
    add_config(command)

    command = add(preview, "Draw some utterances of a split into a PNG.")
    add_config(command)
    command.add_argument("--split", choices=SPLITS, default="train")
    command.add_argument("--count", type=int, default=6, help="how many (6)")
    command.add_argument("--out", type=Path, default=Path("preview.png"), help="(preview.png)")

    command = add(export_toy, "Write toy utterances as .npy files with a manifest.")
    add_config(command)
    command.add_argument("--split", choices=SPLITS, default="test")
    command.add_argument("--count", type=int, help="how many (all)")
    command.add_argument("--out", type=Path, required=True, help="folder to make")

    command = add(convert, "Make a FunASR Paraformer checkpoint one of this package.")
    command.add_argument("checkpoint", type=Path, help="FunASR's .pt file")
    command.add_argument("--out", type=Path, required=True, help=".pt file to write")

    command = add(summarize, "Gather runs into a table and a picture, over seeds.")
    command.add_argument("runs", nargs="+", type=Path, help="run folders, or folders of them")
    command.add_argument("--out", type=Path, default=Path("summary"), help="(summary)")
    command.add_argument("--baseline", metavar="NAME", help="compare the others with it, by seed")

    command = add(profile, "Parameters, time and memory of each part; speed of training and use.")
    add_config(command)
    command.add_argument("--seconds", type=float, default=5.0, help="length of an utterance (5)")
    command.add_argument("--batch", type=int, default=8, help="utterances in a batch (8)")
    command.add_argument("--repeats", type=int, default=5, help="timed passes (5)")

    command = add(reproduce, "Train twice and compare every number and every bit.")
    add_config(command)

    command = add(serve, "Answer over HTTP (pip install 'paraformer-asr[serve]').")
    add_run(command)
    command.add_argument("--host", default="127.0.0.1", help="(127.0.0.1)")
    command.add_argument("--port", type=int, default=8000, help="(8000)")
    return parser


def add_settings(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings, such as train.steps=100"
    )


def add_config(command: argparse.ArgumentParser) -> None:
    command.add_argument("--config", type=Path, required=True, help="YAML file")
    add_settings(command)


def add_run(command: argparse.ArgumentParser) -> None:
    command.add_argument("--run", type=Path, required=True, help="run folder or .pt file")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps (auto)")
