"""The likely cause of a failed validation, and the smallest fix, from what the run left behind.

`diagnose` looks at the first check that failed. Where the program ended with an error, `CAUSES` is
asked in order: each line is a pattern for the last error message and what to say about it.
`{where}` is the deepest line of the project's own code in the traceback.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from maquette.research.judging.verdict import GIB, Verdict, last_line

if TYPE_CHECKING:
    from maquette.research.running.evidence import Evidence

OWN_FOLDERS = frozenset({"model", "data", "training", "testing", "utils", "tests", "run"})
"""What an import of a project means by these names is its own code."""

DISTRIBUTIONS = {
    "sklearn": "scikit-learn",
    "PIL": "pillow",
    "yaml": "pyyaml",
    "cv2": "opencv-python-headless",
    "skimage": "scikit-image",
    "bs4": "beautifulsoup4",
    "dateutil": "python-dateutil",
}
"""Modules whose distribution has another name."""

ERROR_LINE = r"^((?:\w+\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Warning)(?::.*)?)$"
"""The line of a traceback that names the error."""

OWN_ERROR = r"(?m:^(?:error|usage): )((?s:.+))\Z"
"""What the commands of Maquette end with: the error says itself what to do."""

CAUSES: tuple[tuple[str, str], ...] = (
    (
        r"No module named '(?:__main__|pytest)'|No module named pytest",
        "pytest is not installed, so the project's tests cannot run; "
        "add it to requirements.txt: pytest==VERSION.",
    ),
    (
        r"cannot import name '(?P<a>[^']+)' from '(?P<b>[^']+)'",
        "{b} has no {a}, at {where}; define it, or correct its name in the import. When {b} is a "
        "library, requirements.txt pins another version than the code was written for.",
    ),
    (
        r"NotImplementedError: (?P<a>.+)|NotImplementedError$",
        "{where} is not written yet: {a}. Write it; the definition is in its docstring.",
    ),
    (
        r"outside the allowed folders|may not (?:write|change|touch)",
        "the program changes something outside its folders, at {where}: {error}. Write results "
        "below --output, and data below RESEARCH_DATA.",
    ),
    (
        r"out of memory|can't allocate memory|not enough memory|^(?:\w+\.)*MemoryError"
        r"|Unable to allocate|CUDA_?ERROR_OUT_OF_MEMORY|_ALLOC_FAILED",
        "memory ran out at {where}; halve the batch size or the size of the model.",
    ),
    (
        r"shapes cannot be multiplied|size mismatch|The size of tensor a|invalid for input of size"
        r"|Expected input batch_size|could not be broadcast|Sizes of tensors must match"
        r"|inconsistent numbers of samples|mismatch in (?:its core )?dimension|shape mismatch"
        r"|same size|expected \d+D|not aligned|must match the size",
        "two shapes do not fit at {where}: {error}. Print the shapes just before that line and "
        "correct the first one that is not what the plan says.",
    ),
    (
        r"Expected all tensors to be on the same device",
        "tensors of two devices meet at {where}; move the batch with .to(device) where it is made.",
    ),
    (
        r"expected scalar type|must have the same dtype|expected m1 and m2 to have the same dtype"
        r"|not implemented for '(?:Long|Int|Bool|Half|Double)'",
        "two number types meet at {where}: {error}. Convert inputs with .float() and class labels "
        "with .long() where they are loaded.",
    ),
    (
        r"Target -?\d+ is out of bounds|device-side assert|index out of range in self",
        "a label or an index is larger than the model expects, at {where}: {error}. Compare the "
        "number of classes of the data with the width of the last layer.",
    ),
    (
        r"does not require grad|does not have a grad_fn",
        "the loss is cut off from the parameters at {where}; compute it without .detach(), .item() "
        "or torch.no_grad().",
    ),
    (
        r"FileNotFoundError: .*?No such file or directory: (?P<a>'[^']*'|\"[^\"]*\"|\S+)",
        "there is no file {a}, asked for at {where}; build paths from the project's folder "
        "(Path(__file__).parent), and download what is missing.",
    ),
    (
        r"FileNotFoundError: ",
        "a file is missing at {where}: {error}. Build paths from the project's folder "
        "(Path(__file__).parent), and download what is missing.",
    ),
    (
        r"URLError|ConnectionError|ConnectionRefused|gaierror|HTTPError|TimeoutError|timed out"
        r"|Name or service not known|MaxRetryError",
        "a download failed at {where}: {error}. Without a network, name a folder that holds the "
        "files with RESEARCH_MIRROR=FOLDER.",
    ),
    (
        r"sha256|SHA-256|checksum",
        "data are not what the plan says, at {where}: {error}. Remove the file from the data cache "
        "to fetch it again, or correct the plan.",
    ),
    (
        r"unrecognized arguments: (?P<a>.+)|the following arguments are required: (?P<b>.+)",
        "run.py does not take the arguments of a validation: {error}. It must run with "
        "--epochs N --output FOLDER, every other argument optional.",
    ),
    (
        r"^(?:SyntaxError|IndentationError|TabError): (?P<a>.+)",
        "Python cannot read {where}: {a}.",
    ),
    (
        r"^AssertionError",
        "an assertion does not hold at {where}: {error}. Correct the code, or the assertion.",
    ),
    (
        r"(?:nan|inf|NaN|Inf)(?:finite)?\b",
        "a value that is not finite appears at {where}: {error}. Use a smaller learning rate, and "
        "look for log(0), division by zero and missing values in the data.",
    ),
)
"""(pattern for the error message, what to say). {a} and {b} are the pattern's groups."""


def diagnose(failed: Verdict, evidence: Evidence, project: Path) -> str:
    """Say what most likely went wrong and what to do, in one or two sentences.

    Args:
        failed: the first check that did not pass.
        evidence: of the step that it judges: the environment, the tests or the run.
        project: whose lines are named; others in a traceback are libraries.
    """
    if evidence.ended != "exit":
        return _stopped(evidence, project)
    if evidence.exit_code != 0:
        return _crashed(evidence, project)
    if failed.check in ("finite losses", "finite gradients", "loss falls", "metric range"):
        first = [*evidence.bad_losses, *evidence.bad_gradients]
        if first:
            return (
                f"training leaves the finite numbers at {'; '.join(first[:2])}. Divide the "
                "learning rate by 10, or clip the gradient norm; when it is step 1, look for "
                "log(0), division by zero and missing values in the data."
            )
    return f"{failed.check}: {failed.found}; {failed.remedy or 'look there first'}."


def _stopped(evidence: Evidence, project: Path) -> str:
    """Why it was ended at a limit, where it was, and what it last said."""
    last = last_line(evidence.stdout_tail)
    said = f"The last it said: {last!r}." if last else "It had printed nothing."
    if evidence.ended == "time_limit":
        lines = project_lines(evidence.stderr_tail, project)
        there = f" at {lines[0]}" if lines else ""  # the guard shows the innermost frame first
        return (
            f"it was still running{there} after {evidence.seconds:.0f} s. {said} When it hangs, "
            "look for input(), a worker that waits, or a loop without end; when it is slow, train "
            "on fewer seeds or smaller models for few epochs, or raise --time-limit."
        )
    if evidence.ended == "memory_limit":
        return (
            f"it held {evidence.peak_bytes / GIB:.2f} GiB of memory and was stopped. {said} Halve "
            "the batch size, load data in pieces, keep no tensors with gradients in lists "
            "(loss.item()), or raise --memory-limit."
        )
    return f"it printed without end and was stopped. {said} Print once per epoch."


def _crashed(evidence: Evidence, project: Path) -> str:
    """Why it ended with an error, from the last traceback."""
    signal = _signal(evidence.exit_code or 0)
    text = evidence.stderr_tail if evidence.stderr_tail.strip() else evidence.stdout_tail
    if signal is not None:
        return f"the system ended it with {signal}."
    own = re.search(OWN_ERROR, text.strip())
    if own is not None and ": error: " not in text and "Traceback" not in own[1]:
        return own[1].strip()
    error, where = error_message(text), project_line(text, project)
    missing = re.search(r"No module named '([^']+)'", error)
    if missing is not None and missing[1].partition(".")[0] not in ("pytest", "__main__"):
        return _missing_module(missing[1], where)
    for pattern, say in CAUSES:
        found = re.search(pattern, error)
        if found is not None:
            groups = {name: value or "" for name, value in found.groupdict().items()}
            return say.format(where=where, error=error, **({"a": "", "b": ""} | groups))
    return f"it ended with exit code {evidence.exit_code} at {where}: {error or 'no message'}."


def _signal(exit_code: int) -> str | None:
    """Say what a signal means; None when the exit code is no signal's."""
    number = -exit_code if exit_code < 0 else exit_code - 128
    return {
        4: "signal 4, an instruction that this processor does not know: a library was built for "
        "another one",
        6: "signal 6, an abort inside a library; stderr.txt has its last words",
        9: "signal 9, most likely because the machine ran out of memory: halve the batch size, or "
        "set --memory-limit below what is free",
        11: "signal 11, a bad address inside a library: look for two libraries that each bring "
        "their own threads, and pin versions known to work together",
    }.get(number)


def _missing_module(module: str, where: str) -> str:
    """A module is not there: a line of requirements.txt, or the project's own file."""
    top = module.partition(".")[0]
    if top in OWN_FOLDERS:
        return (
            f"the project has no module {module}, imported at {where}; write the file, or correct "
            "the import. Folders need an __init__.py."
        )
    name = DISTRIBUTIONS.get(top, top)
    return (
        f"{top} is not installed, imported at {where}; add it to requirements.txt: {name}==VERSION."
    )


def error_message(text: str) -> str:
    """Return the last error of a Python program: the line that names it, else the last line."""
    named = re.findall(ERROR_LINE, text, re.MULTILINE)
    return named[-1].strip() if named else last_line(text)


def project_line(text: str, project: Path) -> str:
    """Return file:line of the deepest frame of the project's own code, or where to look instead."""
    lines = project_lines(text, project)
    return lines[-1] if lines else "a place the output does not name"


def project_lines(text: str, project: Path) -> list[str]:
    """Return file:line of every frame of the project's own code, as they are printed."""
    found = []
    for path, line in re.findall(r'File "([^"]+)", line (\d+)', text):
        place = Path(path)
        if place.is_absolute():
            if not place.is_relative_to(project):
                continue
            place = place.relative_to(project)
        if "site-packages" not in place.parts and not path.startswith("<"):
            found.append(f"{place.as_posix()}:{line}")
    return found
