"""Which recipe keys a search changes, and between what.

`space_of` reads and checks the space of a recipe; `with_values` puts a trial's values into it.
"""

from __future__ import annotations

import math
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from maquette.errors import RecipeError, UsageError, nearest
from maquette.recipe import Recipe, make_recipe
from maquette.recipe.image_text import SearchRange, Tune
from maquette.recipe.reading import section_in
from maquette.tuning.defaults import default_space, default_values

Scalar: TypeAlias = str | float | int | bool

NOT_SEARCHED = ("name", "seed", "device", "runs_dir", "debug", "evaluation", "tracking", "tune")
"""Keys that make no model better."""
MEASURED_BY = ("path", "where", "split", "train_split", "validation_split", "test_split")
"""Keys of the data that decide on what a trial is measured."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """A number between `low` and `high`, both included."""

    low: float
    high: float
    log: bool = False
    """Drawn evenly in the exponent."""
    whole: bool = False
    """Whole numbers only."""

    def holds(self, value: object) -> bool:
        """Whether a value of a recipe lies inside."""
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and self.low <= value <= self.high  # type: ignore[operator]

    def is_edge(self, value: Any) -> bool:
        """Whether a value lies within the outer hundredth of the range."""
        low, high, at = self.low, self.high, float(value)
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(at)
        return min(at - low, high - at) <= 0.01 * (high - low)


@dataclass(frozen=True, kw_only=True)
class Choices:
    """One of these values."""

    values: tuple[Scalar, ...]

    def holds(self, value: object) -> bool:
        """Whether a value of a recipe is among them; True is not 1."""
        return any(value == one and type(value) is type(one) for one in self.values)


Space: TypeAlias = Mapping[str, Span | Choices]
"""Recipe key -> where its values come from."""


def space_of(recipe: Recipe) -> Space:
    """Return the space of `recipe.tune`, or the one its task proposes when that is empty.

    Every end of a range and every choice is tried on the recipe first, so what the schema refuses
    is refused before anything is trained.

    Raises:
        UsageError: there is nothing to search, or a key that cannot be.
        RecipeError: a value that the key does not take.
    """
    given = dict((recipe.tune or Tune()).space) or default_space(recipe)
    if not given:
        raise UsageError(
            "There is nothing to search: tune.space is empty. Name recipe keys in it, for example "
            "tune: {space: {training.learning_rate: {low: 0.0001, high: 0.01, log: true}}}."
        )
    space: dict[str, Span | Choices] = {}
    for key, values in given.items():
        kinds = _kinds_at(key)
        space[key] = (
            _span(key, values, kinds)
            if isinstance(values, SearchRange)
            else Choices(values=_distinct(key, values))
        )
    for key, source in space.items():
        tried = (source.low, source.high) if isinstance(source, Span) else source.values
        for value in tried:
            with_values(recipe, {key: value}, space)
    return space


def with_values(recipe: Recipe, values: Mapping[str, Scalar], space: Space) -> Recipe:
    """Return the recipe with some of its keys changed; the others stay as they were given.

    Raises:
        RecipeError: the recipe does not take these values, alone or together.
    """
    content = recipe.model_dump(mode="json", by_alias=True, exclude_unset=True)
    for key, value in values.items():
        *parents, last = key.split(".")
        section = content
        for parent in parents:
            if not isinstance(section.get(parent), dict):
                section[parent] = {}
            section = section[parent]
        section[last] = _for_recipe(key, value, space[key])
    shown = ", ".join(f"{key}={value}" for key, value in values.items())
    return make_recipe(content, name=f"tune.space: {shown}")


def values_of(recipe: Recipe, space: Space) -> dict[str, Scalar] | None:
    """Return where the recipe itself stands in the space; None when it lies outside."""
    content: Any = recipe.model_dump(mode="json", by_alias=True)
    found: dict[str, Scalar] = {}
    defaults = default_values(recipe)
    for key, values in space.items():
        value = content
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is None or value == "auto":
            value = defaults.get(key, value)
        if isinstance(value, list):
            value = yaml.safe_dump(value, default_flow_style=True).strip()
        if isinstance(values, Span) and not values.whole and isinstance(value, int):
            value = float(value)
        if not values.holds(value):
            return None
        found[key] = value
    return found


def _span(key: str, given: SearchRange, kinds: set[Any]) -> Span:
    if float in kinds:
        return Span(low=given.low, high=given.high, log=given.log)
    if int not in kinds:
        raise UsageError(
            f"tune.space.{key} is a range, but {key} holds no number. Give a list of choices."
        )
    if not (given.low.is_integer() and given.high.is_integer()):
        raise UsageError(
            f"tune.space.{key}: {key} holds whole numbers, so low {given.low:g} and "
            f"high {given.high:g} must be whole too."
        )
    return Span(low=int(given.low), high=int(given.high), log=given.log, whole=True)


def _distinct(key: str, values: tuple[Scalar, ...]) -> tuple[Scalar, ...]:
    if len({(type(value), value) for value in values}) < max(2, len(values)):
        raise UsageError(
            f"tune.space.{key}: a search needs two different choices or more, found {list(values)}."
        )
    return values


def _for_recipe(key: str, value: Scalar, values: Span | Choices) -> Any:
    """A list cannot be a choice, so it is written as text: "[64, 32]"."""
    if isinstance(values, Choices) and isinstance(value, str) and _kinds_at(key) == {tuple}:
        try:
            return yaml.safe_load(value)
        except yaml.YAMLError:
            raise RecipeError(
                f'tune.space.{key}: {value!r} is not a list; write it as text: "[64, 32]".'
            ) from None
    return value


def _kinds_at(key: str) -> set[Any]:
    """Return the types that a recipe key holds: {int, str} for a whole number or a word.

    Raises:
        UsageError: there is no such key, or it is none that can be searched.
    """
    _refuse_what_is_not_searched(key)
    annotation: Any = Recipe
    for part in key.split("."):
        mapped, section = _value_of_mapping(annotation), section_in(annotation)
        fields = {} if section is None else _fields(section)
        if mapped is None and part not in fields:
            allowed = f" Allowed there: {', '.join(fields)}." if fields else ""
            raise UsageError(f"tune.space: unknown key {key!r}.{nearest(part, fields)}{allowed}")
        annotation = fields[part] if mapped is None else mapped
    kinds = set(_leaves(annotation)) - {type(None)}
    if not kinds <= {int, float, str, bool, tuple}:
        raise UsageError(f"tune.space: {key!r} is a section; name one key inside it.")
    return kinds


def _refuse_what_is_not_searched(key: str) -> None:
    parts = key.split(".")
    if parts[0] in NOT_SEARCHED:
        raise UsageError(f"tune.space: {key!r} cannot be searched; it makes no model better.")
    decides = parts[0] == "data" and len(parts) > 2 and parts[2] in MEASURED_BY
    if decides or key == "training.early_stopping.monitor":
        raise UsageError(
            f"tune.space: {key!r} cannot be searched; it decides what a trial is measured by, so "
            "trials could not be compared."
        )


def _fields(section: type[BaseModel]) -> dict[str, Any]:
    return {field.alias or name: field.annotation for name, field in section.model_fields.items()}


def _value_of_mapping(annotation: Any) -> Any:
    return get_args(annotation)[1] if get_origin(annotation) is dict else None


def _leaves(annotation: Any) -> Iterator[Any]:
    """Yield the plain types inside an annotation; the words of a Literal count as their type."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _leaves(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for option in get_args(annotation):
            yield from _leaves(option)
    elif origin is Literal:
        yield from {type(word) for word in get_args(annotation)}
    else:
        yield annotation if origin is None else origin
