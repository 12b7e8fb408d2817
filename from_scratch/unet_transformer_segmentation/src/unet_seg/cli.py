"""The command line: each command parses, calls one function and prints what it returns.

Results go to stdout, progress and errors to stderr. Exit codes: 0 done, 1 something the message
says how to mend, 2 wrong usage, 130 and 143 stopped by SIGINT or SIGTERM.

PyTorch, NumPy and matplotlib are imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from unet_seg import __version__
from unet_seg.errors import Interrupted, SegError

EXAMPLES = """\
examples:
  python -m unet_seg train --config configs/tiny.yaml
  python -m unet_seg train --config configs/hybrid.yaml seed=1 train.steps=200
  python -m unet_seg evaluate --run runs/RUN --split test
  python -m unet_seg infer --run runs/RUN photo.png --out predictions
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code. `arguments` are those of the process by default."""
    _prepare_environment()
    options = _parse(arguments)
    try:
        code = int(options.command(options) or 0)
        sys.stdout.flush()  # here, where a closed pipe is still ours to handle
    except SegError as error:
        return _fail(str(error))
    except Interrupted as interrupted:
        print(interrupted, file=sys.stderr)
        return interrupted.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of stdout, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None and error.errno != errno.ENOSPC:
            raise  # not about a file of the user's
        return _fail(f"{error}; look at the path, the permissions and the space on the disk.")
    except (MemoryError, RuntimeError) as error:
        from unet_seg.devices import explain_out_of_memory

        message = explain_out_of_memory(error)
        if message is None:
            raise
        return _fail(message)
    return code


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the arguments; `key=value` may stand anywhere, also after options that follow others.

    argparse takes all of a `*` argument from one place and calls the rest unrecognized.
    """
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    more = [text for text in rest if "=" in text and not text.startswith("-")]
    if len(more) < len(rest) or (more and not hasattr(options, "overrides")):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if more:
        options.overrides.extend(more)
    return options


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 1


def _prepare_environment() -> None:
    """Settings that PyTorch reads once, when it is imported; what is already set stays.

    Large tensors come from huge pages: without them each step pays for fresh pages one by one.
    Threads that wait sleep: on a busy machine, spinning ones take the cores from working ones.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _train(options: argparse.Namespace) -> None:
    from unet_seg.config import load_config
    from unet_seg.train import resume, train

    if options.resume and options.overrides:
        raise SegError(
            f"a resumed run keeps its configuration; leave out {' '.join(options.overrides)} or "
            "start a new run."
        )
    if options.resume:
        run = resume(options.resume, progress=not options.quiet)
    else:
        config = load_config(options.config, options.overrides)
        run = train(config, progress=not options.quiet)
    print(run)


def _evaluate(options: argparse.Namespace) -> None:
    from unet_seg.checkpoints import load_model
    from unet_seg.evaluate import evaluate_run

    loaded = load_model(options.run, options.device)
    out = options.out or (options.run if options.run.is_dir() else options.run.parent)
    evaluate_run(
        loaded,
        options.split,
        window=options.window,
        overlap=options.overlap,
        tta=options.tta,
        surface=options.surface,
        out=out,
    )


def _infer(options: argparse.Namespace) -> int:
    from unet_seg.checkpoints import load_model
    from unet_seg.infer import infer_paths

    report = infer_paths(
        load_model(options.run, options.device),
        options.inputs,
        options.out,
        window=options.window,
        overlap=options.overlap,
        tta=options.tta,
        overlay_alpha=options.alpha,
    )
    for path in report.written:
        print(path)
    for message in report.errors:
        _fail(message)
    return 1 if report.errors else 0


def _check(options: argparse.Namespace) -> None:
    from unet_seg.config import load_config
    from unet_seg.data.build import build_datasets, class_shares

    config = load_config(options.config, options.overrides)
    for split, dataset in build_datasets(config).items():
        shares = class_shares(dataset)
        shown = ", ".join(f"{name} {100 * share:.2f} %" for name, share in shares.items())
        print(f"{split}: {len(dataset)} images; {shown}")
        for name, share in shares.items():
            if share == 0 and split == "train":
                print(
                    f"warning: class {name} is on no pixel of train, so it cannot be learned; "
                    "look at class_map and at the splits.",
                    file=sys.stderr,
                )


def _preview(options: argparse.Namespace) -> None:
    from unet_seg.config import load_config
    from unet_seg.data.build import build_datasets
    from unet_seg.preview import preview

    config = load_config(options.config, options.overrides)
    preview(build_datasets(config)[options.split], options.out, count=options.count)
    print(options.out)


def _export_toy(options: argparse.Namespace) -> None:
    from unet_seg.config import load_config
    from unet_seg.data.toy import ToyShapes, export

    config = load_config(options.config, options.overrides)
    for split in ("train", "valid", "test"):
        export(ToyShapes.from_config(config.data.toy, split=split, seed=config.seed), options.out)
    print(options.out)


def _summarize(options: argparse.Namespace) -> None:
    from unet_seg.summarize import summarize

    print(summarize(options.runs, options.out, baseline=options.baseline))


def _profile(options: argparse.Namespace) -> None:
    from unet_seg.config import load_config
    from unet_seg.profiling import profile

    config = load_config(options.config, options.overrides)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
    report = profile(config, size=tuple(options.size), repeats=options.repeats)
    if options.out:
        from unet_seg.runs import write_atomic

        write_atomic(options.out, json.dumps(report.to_dict(), indent=2) + "\n")
    print(report.table())


def _reproduce(options: argparse.Namespace) -> int:
    from unet_seg.config import load_config
    from unet_seg.reproduce import reproduce

    result = reproduce(load_config(options.config, options.overrides))
    print(result.text())
    return 0 if result.equal else 1


def _serve(options: argparse.Namespace) -> None:
    from unet_seg.checkpoints import load_model
    from unet_seg.service import serve

    serve(load_model(options.run, options.device), host=options.host, port=options.port)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m unet_seg",
        description="U-Net and U-Net + transformer segmentation, from scratch.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"unet_seg {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, function: Callable[..., object], text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(command=function)
        return made

    train = command("train", _train, "Train a configuration; the run folder is printed last.")
    start = train.add_mutually_exclusive_group(required=True)
    start.add_argument("--config", type=Path, help="YAML file of a new run")
    start.add_argument("--resume", type=Path, metavar="RUN", help="run folder to go on with")
    train.add_argument("--quiet", action="store_true", help="no progress bar")
    _add_overrides(train)

    evaluate = command("evaluate", _evaluate, "Score a run per class and as a whole.")
    _add_model(evaluate)
    evaluate.add_argument("--split", choices=("train", "valid", "test"), default="test")
    evaluate.add_argument("--surface", action="store_true", help="HD95 and surface distance too")
    evaluate.add_argument("--out", type=Path, help="folder for the tables (default: the run)")

    infer = command("infer", _infer, "Segment images, folders or globs, of any size.")
    _add_model(infer)
    infer.add_argument("inputs", nargs="+", metavar="IMAGE", help="image, folder or glob")
    infer.add_argument("--out", type=Path, default=Path("predictions"), help="output folder")
    infer.add_argument("--alpha", type=float, default=0.5, help="opacity of the overlay, 0 to 1")

    check = command("check", _check, "Open every image and mask and list all faults at once.")
    _add_config(check)

    preview = command("preview", _preview, "Draw images with their masks into a PNG.")
    _add_config(preview)
    preview.add_argument("--split", choices=("train", "valid", "test"), default="train")
    preview.add_argument("--count", type=int, default=12, help="images to draw (12)")
    preview.add_argument("--out", type=Path, default=Path("preview.png"), help="(preview.png)")

    export = command("export-toy", _export_toy, "Write the toy data as image and mask files.")
    _add_config(export)
    export.add_argument("--out", type=Path, required=True, help="output folder")

    summarize = command("summarize", _summarize, "Gather runs into summary.csv, .md and plots.")
    summarize.add_argument("runs", nargs="+", type=Path, help="run folders, or folders of them")
    summarize.add_argument("--out", type=Path, default=Path("summary"), help="folder (summary)")
    summarize.add_argument("--baseline", help="configuration the others are compared with, by seed")

    profile = command("profile", _profile, "Time, memory and FLOPs of each module, throughput.")
    _add_config(profile)
    profile.add_argument("--size", type=int, nargs=2, default=(128, 128), metavar=("H", "W"))
    profile.add_argument("--repeats", type=int, default=5, help="timed passes (5)")
    profile.add_argument("--out", type=Path, help="also write the figures to this JSON file")

    reproduce = command("reproduce", _reproduce, "Train twice and compare every number and bit.")
    _add_config(reproduce)

    serve = command("serve", _serve, "Answer over HTTP (needs the extra: serve).")
    _add_model(serve, sliding=False)
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    serve.add_argument("--port", type=int, default=8000, help="(8000)")
    return parser


def _add_overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="such as train.steps=100 seed=1"
    )


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, help="YAML file")
    _add_overrides(parser)


def _add_model(parser: argparse.ArgumentParser, *, sliding: bool = True) -> None:
    parser.add_argument("--run", type=Path, required=True, help="run folder or .pt file")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps")
    if sliding:
        parser.add_argument("--window", type=int, help="side of the sliding window in pixels")
        parser.add_argument("--overlap", type=float, default=0.5, help="of windows, 0 to 0.9")
        parser.add_argument("--tta", action="store_true", help="average over the four flips")
