"""Domain templates: prompts, safe augmentation, loss and metrics for a kind of images. No torch.

Each file of the folder `domains/` is one domain; to add one, add a file like them, there or
anywhere (`data.image_text.domain: path/to/mine.yaml`). `read_domain` is the way in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from maquette.errors import UsageError, nearest, one_of
from maquette.recipe.augmentation import Augmentation, TextAugmentation
from maquette.recipe.image_text import SearchRange
from maquette.recipe.section import Section
from maquette.tasks.image_text.loss_parameters import check_parameters

FOLDER = Path(__file__).parent / "domains"
"""Where the shipped domains lie."""

Metric = Literal[
    "mean_recall",
    "image_to_text_r1",
    "image_to_text_r5",
    "image_to_text_r10",
    "image_to_text_median_rank",
    "image_to_text_mrr",
    "text_to_image_r1",
    "text_to_image_r5",
    "text_to_image_r10",
    "text_to_image_median_rank",
    "text_to_image_mrr",
    "accuracy",
    "balanced_accuracy",
    "f1_macro",
    "roc_auc",
]


def _has_one_place(prompt: str) -> str:
    rest = prompt.replace("{}", "", 1)
    if "{" in rest or "}" in rest or rest == prompt:
        raise ValueError(f"{prompt!r} needs {{}} once, where the name of the class goes")
    return prompt


def _has_some(values: tuple[str, ...]) -> tuple[str, ...]:
    if not values:
        raise ValueError("give at least one")
    return values


Prompt = Annotated[str, AfterValidator(_has_one_place)]
"""A text with {} where the name of a class goes."""
Prompts = Annotated[tuple[Prompt, ...], AfterValidator(_has_some)]


class States(Section):
    """Prompts for what state an object is in, when the classes are states and not objects."""

    about: str
    """What is told apart."""
    states: Annotated[dict[str, Prompts], Field(min_length=2)]
    """State -> what is said of it, {} standing for the object or finding."""
    frames: Prompts = ("{}",)
    """Sentences into which each of them goes."""

    def prompts(self, state: str, name: str) -> list[str]:
        """Return every frame with every phrase of a state, about the thing called `name`.

        Raises:
            UsageError: there is no such state.
        """
        if state not in self.states:
            raise UsageError(one_of("state", state, self.states))
        phrases = [fill(phrase, name) for phrase in self.states[state]]
        return [fill(frame, phrase) for frame in self.frames for phrase in phrases]


class DomainLoss(Section):
    """The loss that suits a domain, and how it is searched."""

    name: str
    """A name of `LOSSES`."""
    parameters: dict[str, float] = Field(default={})
    """Its own parameters; those not given are the loss's defaults."""
    ranges: dict[str, SearchRange] = Field(default={})
    """Where `maquette tune` searches them, if not where the loss says."""
    why: str
    """What speaks for it."""

    @model_validator(mode="after")
    def _exists(self) -> Self:
        for given in (
            self.parameters,
            {name: each.low for name, each in self.ranges.items()},
            {name: each.high for name, each in self.ranges.items()},
        ):
            try:
                check_parameters(self.name, given)
            except UsageError as error:
                raise ValueError(str(error).rstrip(".")) from None
        return self


class Domain(Section):
    """What is known about one kind of images and texts."""

    name: str
    """How a recipe calls it: the name of the file without .yaml."""
    about: str
    """Which images."""
    prompts: Prompts
    """Prompts for a class; the first one stands alone where only one is used."""
    modalities: dict[str, Prompts] = Field(default={})
    """Prompts for one way of taking images; `domain: NAME:MODALITY` uses them instead."""
    states: dict[str, States] = Field(default={})
    """Sets of prompts for classes that are states: good and defective, present and absent."""
    augmentation: Augmentation
    """Changes that do not make the text wrong."""
    text_augmentation: TextAugmentation = TextAugmentation()
    """Changes of captions that do not make them wrong."""
    loss: DomainLoss
    """The loss, when a recipe says `auto`."""
    metrics: Annotated[tuple[Metric, ...], AfterValidator(_has_some)]
    """Which results to show first."""
    pitfalls: tuple[str, ...]
    """What goes wrong in this domain; shown in the report."""


def domain_names() -> tuple[str, ...]:
    """Return the names of the shipped domains."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def read_domain(name_or_path: str) -> Domain:
    """Read a shipped domain, one of its modalities ("medical:radiology"), or a file of your own.

    Args:
        name_or_path: whatever ends in .yaml or .yml, or holds a path separator, is a path.
    Raises:
        UsageError: there is no such domain, modality or file, or the file is not a domain; lists
            every problem with file, line and key.
    """
    if name_or_path.endswith((".yaml", ".yml")) or "/" in name_or_path or "\\" in name_or_path:
        return _read(Path(name_or_path))
    name, _, modality = name_or_path.partition(":")
    if name not in domain_names():
        raise UsageError(
            f"data.image_text.domain: {one_of('domain', name, domain_names())} "
            "A domain of your own is the path of a file like theirs, ending in .yaml."
        )
    domain = _read(FOLDER / f"{name}.yaml")
    if not modality:
        return domain
    if modality not in domain.modalities:
        raise UsageError(
            f"data.image_text.domain: {one_of(f'modality of {name}', modality, domain.modalities)}"
        )
    return domain.model_copy(update={"prompts": domain.modalities[modality]})


def fill(prompt: str, name: str) -> str:
    """Put the name of a class, underscores read as spaces, into a prompt."""
    return prompt.replace("{}", name.replace("_", " "))


def _read(path: Path) -> Domain:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"data.image_text.domain: could not read {path}: {error}. "
            f"Shipped domains: {', '.join(domain_names())}."
        ) from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        raise UsageError(
            f"{path}:{line}: not valid YAML: {getattr(error, 'problem', None) or error}."
        ) from None
    if not isinstance(values, dict):
        raise UsageError(
            f"{path}:1: a domain is a mapping with the keys {', '.join(Domain.model_fields)}."
        )
    try:
        return Domain.model_validate(values)
    except ValidationError as error:
        lines = dict(_lines(node, ()))
        problems = [_explain(details, lines, path) for details in error.errors()]
        raise UsageError("\n".join(problems)) from None


_KeyPath = tuple[str | int, ...]


def _lines(node: yaml.Node | None, at: _KeyPath) -> Iterator[tuple[_KeyPath, int]]:
    """Yield (key path, line) of every key below a node."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*at, str(key.value)), key.start_mark.line + 1
            yield from _lines(value, (*at, str(key.value)))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*at, index), value.start_mark.line + 1


def _explain(details: ErrorDetails, lines: Mapping[_KeyPath, int], path: Path) -> str:
    """Turn one pydantic error into file:line: key: what is wrong."""
    location = details["loc"]
    written = [location[:n] for n in range(len(location), 0, -1) if location[:n] in lines]
    place = f"{path}:{lines[written[0]] if written else 1}"
    key = ".".join(map(str, location))
    if details["type"] == "extra_forbidden":
        allowed = _keys_at(location[:-1])
        return (
            f"{place}: unknown key {key!r}.{nearest(str(location[-1]), allowed)} "
            f"Allowed here: {', '.join(allowed)}."
        )
    if details["type"] == "missing":
        return f"{place}: the key {key!r} is missing; please give it."
    message = details["msg"].removeprefix("Value error, ")
    if details["type"] == "value_error":
        return f"{place}: {key}: {message}."
    return f"{place}: {key} is {details['input']!r}; {message[:1].lower()}{message[1:]}."


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    """Return the keys of the section at a key path of a domain."""
    sections: dict[str, type[BaseModel]] = {
        "augmentation": Augmentation,
        "text_augmentation": TextAugmentation,
        "loss": DomainLoss,
        "states": States,
    }
    section = sections[str(location[0])] if location else Domain
    if len(location) == 3:  # loss.ranges.NAME
        section = SearchRange
    return list(section.model_fields)
