"""requirements.txt pins everything that the project imports.

A pin is `name==1.2.3`, `name==1.2.*` or `name~=1.2`; a download counts when its address holds a
checksum or a commit. Options such as `--extra-index-url` are left to pip. An import resolves to the
standard library, to a file of the project, or to a requirement; imports inside
`try … except ImportError` and `if TYPE_CHECKING` may resolve to nothing.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from maquette.research.checking.rules.base import Finding, Project
from maquette.research.checking.sources import Import, Source

FILE = "requirements.txt"

DISTRIBUTIONS: Mapping[str, tuple[str, ...]] = {
    "PIL": ("pillow",),
    "attr": ("attrs",),
    "bs4": ("beautifulsoup4",),
    "cv2": ("opencv-python", "opencv-python-headless", "opencv-contrib-python"),
    "dateutil": ("python-dateutil",),
    "dotenv": ("python-dotenv",),
    "fitz": ("pymupdf",),
    "git": ("gitpython",),
    "google": ("protobuf", "google-auth", "google-cloud-storage"),
    "hydra": ("hydra-core",),
    "jose": ("python-jose",),
    "mpl_toolkits": ("matplotlib",),
    "nibabel": ("nibabel",),
    "pkg_resources": ("setuptools",),
    "pydicom": ("pydicom",),
    "pylab": ("matplotlib",),
    "pytorch_lightning": ("pytorch-lightning", "lightning"),
    "serial": ("pyserial",),
    "skimage": ("scikit-image",),
    "sklearn": ("scikit-learn",),
    "sksurv": ("scikit-survival",),
    "torch_geometric": ("torch-geometric", "pyg"),
    "umap": ("umap-learn",),
    "yaml": ("pyyaml",),
}
"""What provides an import whose name is not that of the distribution."""

_TOOLS = ("pytest", "ruff", "mypy", "coverage", "types-", "black", "isort", "pip", "setuptools")
"""Requirements that nothing needs to import."""
_CHECKED = re.compile(r"sha256[=:][0-9a-f]{64}|@[0-9a-f]{40}(?:$|#)")


@dataclass(frozen=True)
class Pin:
    """One line of requirements.txt."""

    line: int
    requirement: Requirement

    @property
    def name(self) -> str:
        """In the form that all spellings share: "scikit-learn"."""
        return canonicalize_name(self.requirement.name)

    @property
    def is_exact(self) -> bool:
        """Whether another version cannot come in unseen."""
        if self.requirement.url:
            return bool(_CHECKED.search(self.requirement.url))
        return any(part.operator in {"==", "===", "~="} for part in self.requirement.specifier)


def requirements(project: Project) -> Iterator[Finding]:
    """Report requirements without a version, imports without a requirement, and idle ones."""
    path = project.workspace.project / FILE
    if not path.is_file():
        return  # the rule `layout` names it
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        yield _finding(FILE, 0, "This file is not UTF-8 text.", "Save it as UTF-8.")
        return
    pins: list[Pin] = []
    for line, content in _lines(text):
        if content.startswith("-"):
            if problem := _option(content):
                yield _finding(FILE, line, *problem)
            continue
        try:
            pins.append(Pin(line, Requirement(content)))
        except InvalidRequirement as error:
            reason = str(error).splitlines()[0].rstrip(".")
            yield _finding(
                FILE,
                line,
                f"{content!r} is not a requirement: {reason}.",
                "Write one package per line: `name==1.2.3`.",
            )
    yield from _pinned(pins)
    yield from _resolved(project, pins)
    yield from _idle(project, pins)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield (line, content) without comments; lines that end in a backslash are joined."""
    waiting, start = "", 0
    for number, line in enumerate([*text.splitlines(), ""], 1):
        start = start or number
        bare = re.sub(r"(^|\s)#.*$", "", line).rstrip()
        waiting += bare.removesuffix("\\")
        if bare.endswith("\\"):
            continue
        content = re.sub(r"\s--hash=\S+", "", waiting).strip()
        if content:
            yield start, content
        waiting, start = "", 0


def _option(content: str) -> tuple[str, str] | None:
    """Say what is wrong with a line that is no package; None for options of the package index."""
    if re.match(r"(?:-e|--editable)\b", content):
        return (
            f"{content!r} installs a folder, not a released package.",
            "Name a package with its version, or write the code inside project/.",
        )
    if re.match(r"(?:-r|--requirement|-c|--constraint)\b", content):
        return (
            f"{content!r} reads another file, which is not checked.",
            "Write all requirements in this file.",
        )
    return None


def _pinned(pins: Sequence[Pin]) -> Iterator[Finding]:
    seen: dict[str, Pin] = {}
    for pin in pins:
        name = pin.requirement.name
        if not pin.is_exact:
            installed = _installed(name) or "1.2.3"
            yield _finding(
                FILE,
                pin.line,
                f"{str(pin.requirement)!r} is not pinned: another day brings another version.",
                f"Write `{name}=={installed}`, with the version that you ran.",
            )
        first = seen.setdefault(pin.name, pin)
        if first is not pin and not (first.requirement.marker and pin.requirement.marker):
            yield _finding(
                FILE,
                pin.line,
                f"{name} is named twice; line {first.line} has it too.",
                "Delete one of the lines.",
            )


def _installed(name: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _resolved(project: Project, pins: Sequence[Pin]) -> Iterator[Finding]:
    """Report imports that come from nowhere, each once per file."""
    names = {pin.name for pin in pins}
    for source in project.sources:
        seen: set[str] = set()
        for item in source.imports:
            top = item.module.partition(".")[0]
            known = top in sys.stdlib_module_names or top in {"", "repos", "__future__"}
            if item.optional or item.climbs_out or known or item.module in seen:
                continue
            if top in _own_tops(project, source):
                if missing := _missing_module(project, item, source):
                    seen.add(item.module)
                    yield _finding(source.name, item.line, *missing)
            elif not names & _providers(top) and top not in seen:
                seen |= {top, item.module}
                yield _finding(
                    source.name,
                    item.line,
                    f"{top} is imported, but {FILE} does not name it.",
                    _how_to_provide(project.workspace.repos, top),
                )


def _own_tops(project: Project, source: Source) -> set[str]:
    """Return the first names that belong to the project: its own, and files beside a test."""
    tops = {module.partition(".")[0] for module in project.modules}
    if source.is_test:
        beside = {other.name for other in project.sources if other.package == source.package}
        tops |= {name.rpartition("/")[2].removesuffix(".py") for name in beside}
    return tops


def _missing_module(project: Project, item: Import, source: Source) -> tuple[str, str] | None:
    """Say which module of the project an import asks for in vain."""
    top, _, rest = item.module.partition(".")
    beside = source.is_test and f"{source.name.rpartition('/')[0]}/{top}.py" in project.by_name
    if item.module in project.modules or (beside and not rest):
        return None
    file = f"{item.module.replace('.', '/')}.py"
    return (
        f"{item.module} is imported, but there is no {file} in the project.",
        "Write it, or correct the name.",
    )


def _providers(top: str) -> set[str]:
    """Return the distributions that may provide an import."""
    here = _installed_providers().get(top, [])
    return {canonicalize_name(name) for name in (top, *DISTRIBUTIONS.get(top, ()), *here)}


@cache
def _installed_providers() -> Mapping[str, list[str]]:
    from importlib.metadata import packages_distributions

    return packages_distributions()


def _how_to_provide(repos: Path, top: str) -> str:
    if repos.is_dir() and any((folder / top).exists() for folder in [repos, *repos.iterdir()]):
        return "It is code of repos/: write what you need of it anew inside project/."
    name = DISTRIBUTIONS.get(top, (top,))[0]
    return f"Add the line `{name}=={_installed(name) or '1.2.3'}`, with the version that you ran."


def _idle(project: Project, pins: Sequence[Pin]) -> Iterator[Finding]:
    used: set[str] = set()
    for top in {item.module.partition(".")[0] for s in project.sources for item in s.imports}:
        used |= _providers(top)
    for pin in pins:
        if pin.name not in used and not pin.name.startswith(_TOOLS):
            yield _finding(
                FILE,
                pin.line,
                f"Nothing in the project imports {pin.requirement.name}.",
                "Delete the line, unless another package needs just this version.",
                note=True,
            )


def _finding(name: str, line: int, message: str, remedy: str, *, note: bool = False) -> Finding:
    return Finding(
        rule="requirements",
        path=f"project/{name}",
        line=line,
        message=message,
        remedy=remedy,
        note=note,
    )
