"""Every file of a new workspace as text: the templates of templates/project/, filled from the plan.

A template is called as the file it makes, with `.jinja` behind it. What depends on no plan is
complete in it: download, seeds, batches, the loop, the trivial answer, the record.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from maquette.errors import UsageError
from maquette.research.planning.plan import Item, Plan
from maquette.research.scaffolding.plan_facts import (
    Settings,
    Source,
    requirements,
    settings_of,
    source_of,
)
from maquette.research.scaffolding.skeletons import (
    docstring,
    environment,
    import_lines,
    item_code,
    item_imports,
    item_test,
    module_code,
    module_of,
    name_order,
    quoted,
)

OPEN = ("data/dataset.py", "training/loss.py", "testing/metrics.py")
"""Files of the layout that items are written into. The others are complete, or an item's own."""

_RUN = """

    python run.py --epochs 2

trains every model on every data set with every seed, and writes run.json into the output folder.
Start reading at `main`."""

_TRIVIAL = """

Returns:
    For numbers the mean of the training targets, (num_samples, …). For classes the
    logarithm of their frequency, (num_samples, K): the most frequent class wins, and the
    probabilities are as good as they can be. One is added to each count, so that no class
    is impossible."""


@dataclass(frozen=True)
class Scaffold:
    """A plan, and what its project begins with."""

    plan: Plan
    project: Path
    """Where the project will be; local data files are named relative to it."""

    @cached_property
    def settings(self) -> Settings:
        """How training is set."""
        return settings_of(self.plan.training)

    @cached_property
    def sources(self) -> Mapping[str, Source]:
        """Slug of every data set -> where its file comes from."""
        return {
            item.slug: source_of(item, self.plan, self.project)
            for item in self.plan.of_kind("dataset")
        }

    @cached_property
    def files(self) -> Mapping[str, str]:
        """Path in the project -> text of the file.

        Raises:
            UsageError: an item would be in a file that is complete, or under a name taken there.
        """
        self._refuse_complete_files()
        files = {
            name: environment().get_template(f"project/{name}.jinja").render(self._context(name))
            for name in _templates()
        }
        for file, items in self._items_by_file().items():
            if file not in OPEN:
                files[file] = module_code(items, self._fetches)
                for folder in PurePosixPath(file).parents[:-1]:
                    files.setdefault(f"{folder}/__init__.py", "")
        files |= {item.test_file: item_test(item) for item in self.plan.items}
        self._refuse_taken_names(files)
        return files

    def code(self, item: Item) -> str:
        """Return the class or function of one item."""
        return item_code(item, fetch=self._fetches.get(item.slug, ""))

    def code_with_imports(self, item: Item) -> str:
        """Return the code of one item below what it imports, for a file that is there."""
        own = module_of(item.file)
        wanted = item_imports([item], self._fetches)
        lines = import_lines({module: wanted[module] for module in wanted if module != own})
        return "\n".join([*lines, "", "", self.code(item)] if lines else [self.code(item)])

    def source_code(self, slug: str) -> str:
        """Return the entry of SOURCES for a data set."""
        source = self.sources[slug]
        facts = {"file": source.file, "sha256": source.sha256}
        facts |= {"url": source.url} if source.url else {}
        facts |= {"path": source.path} if source.path else {}
        lines = [f"        {key}={quoted(value)}," for key, value in facts.items()]
        return "\n".join([f'    "{slug}": Source(', *lines, "    ),"])

    @cached_property
    def _fetches(self) -> Mapping[str, str]:
        """Slug of a data set -> the expression that brings its file here."""
        return {
            slug: f'{source.fetch}(SOURCES["{slug}"])'
            + (f" / {quoted(source.member)}" if source.member else "")
            for slug, source in self.sources.items()
            if source.fetch
        }

    def _items_by_file(self) -> Mapping[str, list[Item]]:
        files: dict[str, list[Item]] = {}
        for item in self.plan.items:
            files.setdefault(item.file, []).append(item)
        return files

    def _context(self, name: str) -> dict[str, Any]:
        """Return what the template of one file asks for."""
        plan, settings = self.plan, self.settings
        context: dict[str, Any] = {
            "title": plan.title,
            "question": plan.question,
            "settings": settings,
            "items": [self.code(item) for item in self._items_by_file().get(name, [])],
        }
        if name == "run.py":
            loss = plan.of_kind("loss")[0]
            context |= {
                "doc": docstring(plan.title + _RUN),
                "imports": import_lines(self._run_imports(loss)),
                "datasets": plan.of_kind("dataset"),
                "models": plan.of_kind("model"),
                "loss": loss.symbol,
            }
        elif name in OPEN:
            context |= {"imports": self._open_imports(name), "sources": self._source_codes()}
        elif name == "model/__init__.py":
            context |= self._exports()
        elif name == "training/trainer.py":
            context["doc"] = docstring(self._trainer_words())
        elif name == "testing/evaluator.py":
            context |= self._evaluator_words()
        elif name == "requirements.txt":
            context["requirements"] = requirements(self.sources)
        elif name == "README.md":
            context["items"] = plan.items
        return context

    def _run_imports(self, loss: Item) -> dict[str, set[str]]:
        wanted = {
            "data.dataset": {"SOURCES", "Splits"},
            "data.loader": {"make_loader"},
            "testing.evaluator": {"predict", "score", "trivial_outputs"},
            "training.trainer": {"build_optimizer", "train"},
            "utils.record": {"Record"},
            "utils.seeding": {"seed_everything"},
        }
        for item in (*self.plan.of_kind("dataset"), *self.plan.of_kind("model"), loss):
            wanted.setdefault(module_of(item.file), set()).add(item.symbol)
        return wanted

    def _open_imports(self, name: str) -> list[str]:
        """Return the imports of a file of `OPEN`: for what it holds itself, and for its items."""
        wanted = item_imports(self._items_by_file().get(name, []), self._fetches)
        if name == "data/dataset.py":
            wanted.pop("data.dataset", None)
            own = {"torch": "Tensor", "torch.utils.data": "Dataset", "utils.download": "Source"}
            for module, symbol in own.items():
                wanted.setdefault(module, set()).add(symbol)
        return import_lines(wanted)

    def _source_codes(self) -> list[str]:
        return [self.source_code(slug) for slug in self.sources]

    def _exports(self) -> dict[str, Any]:
        models = self.plan.of_kind("model")
        wanted: dict[str, set[str]] = {}
        for item in models:
            wanted.setdefault(module_of(item.file), set()).add(item.symbol)
        symbols = sorted((item.symbol for item in models), key=name_order)
        return {"imports": import_lines(wanted), "symbols": symbols}

    def _trainer_words(self) -> str:
        words = "Training: one loop for every model that learns by gradients."
        said = [f"    {key}: {value}" for key, value in self.plan.training.items()]
        return words + "".join(
            f"\n{line}" for line in (["", "The plan says:", *said] if said else [])
        )

    def _evaluator_words(self) -> dict[str, Any]:
        metrics = self.plan.of_kind("metric")
        wanted: dict[str, set[str]] = {}
        for item in metrics:
            wanted.setdefault(module_of(item.file), set()).add(item.symbol)
        wanted |= {"data.dataset": {"Samples"}, "data.loader": {"make_loader"}}
        said = [f"    {m.name}: {m.fields['baseline']}" for m in metrics if "baseline" in m.fields]
        plan_says = "\n".join(["", "", "The plan says:", *said]) if said else ""
        words = f"Return the outputs of a model that ignores its inputs.{plan_says}{_TRIVIAL}"
        return {
            "imports": import_lines(wanted),
            "metrics": metrics,
            "trivial_doc": docstring(words, "    "),
        }

    def _refuse_complete_files(self) -> None:
        complete = set(_templates()) - set(OPEN)
        for item in self.plan.items:
            if item.file in complete or PurePosixPath(item.file).name == "__init__.py":
                raise UsageError(
                    f"{self.plan.path}:{item.line}: {item.name}: {item.file} is written whole, "
                    "without an item of the plan. Name another file, such as "
                    f"`- code: {PurePosixPath(item.file).parts[0]}/{item.slug}.py:{item.symbol}`."
                )

    def _refuse_taken_names(self, files: Mapping[str, str]) -> None:
        """Refuse symbols that would hide something else in a file where they are used."""
        for file, text in files.items():
            bound = list(_bound_names(ast.parse(text))) if file.endswith(".py") else []
            for item in self.plan.items:
                if bound.count(item.symbol) > 1 or item.symbol in dir(builtins):
                    where = "Python has" if item.symbol in dir(builtins) else f"{file} needs"
                    raise UsageError(
                        f"{self.plan.path}:{item.line}: {item.name} would be {item.symbol}, a name "
                        f"that {where} already. Choose another: "
                        f"`- code: {item.file}:{item.symbol}_{item.kind}`."
                    )


def notes_text(plan: Plan) -> str:
    """Return a notes.md with its headings and nothing said yet."""
    return environment().get_template("notes.md.jinja").render(title=plan.title)


def _templates() -> list[str]:
    """Return the files of templates/project/, without their ending."""
    return sorted(
        name.removeprefix("project/").removesuffix(".jinja")
        for name in environment().list_templates()
        if name.startswith("project/")
    )


def _bound_names(tree: ast.Module) -> Iterator[str]:
    """Yield every name that a file gives a meaning, anywhere, once for each time."""
    for node in ast.walk(tree):
        if isinstance(node, ast.alias):
            yield (node.asname or node.name).partition(".")[0]
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
