"""Read a recipe: YAML file + `key=value` overrides -> Recipe, or an error that names the line.

`read_recipe` is the way in; `dump_recipe` writes the resolved recipe that repeats a run.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from maquette.errors import RecipeError, nearest
from maquette.recipe.image_text import ImageTextData
from maquette.recipe.schema import Recipe

KeyPath = tuple[str | int, ...]
Places = dict[KeyPath, str]
"""Where each key was written: 'recipes/iris.yaml:12' or 'the override training.epochs=-1'."""


def read_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read the YAML file `source`, apply `key=value` overrides, and validate the whole.

    Args:
        source: path of a YAML file.
        overrides: strings such as "training.epochs=5"; the value is YAML, the key a dotted path.
    Raises:
        RecipeError: missing or malformed file, unknown key, wrong type or value; one message
            lists every problem with its place.
    """
    path = Path(source)
    values, places = _read_yaml(path)
    for override in overrides:
        _apply_override(values, places, override)
    return _validate(values, places, str(path))


def make_recipe(values: Mapping[str, Any], *, name: str = "the given mapping") -> Recipe:
    """Validate a recipe given as nested dictionaries; errors name the key path."""
    return _validate(dict(values), {}, name)


def dump_recipe(recipe: Recipe) -> str:
    """Write the complete recipe, every default included, as YAML that `read_recipe` accepts."""
    values = recipe.model_dump(mode="json", by_alias=True, exclude_none=True)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)


def _read_yaml(path: Path) -> tuple[dict[str, Any], Places]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        siblings = [str(p) for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise RecipeError(
            f"There is no recipe {path}.{nearest(str(path), siblings)} "
            "`maquette init DATA.csv --output recipe.yaml` writes one."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"Could not read the recipe {path}: {error}.") from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        places: Places = dict(_places(root, (), path)) if root is not None else {}
        values = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RecipeError(f"{path}:{line}: not valid YAML: {error.problem or error}.") from None
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not valid YAML: {error}.") from None
    if not isinstance(values, dict):
        raise RecipeError(
            f"{path}:1: a recipe is a mapping with the keys {', '.join(Recipe.model_fields)}; "
            f"found {type(values).__name__ if values is not None else 'an empty file'}."
        )
    return values, places


def _places(node: yaml.Node, at: KeyPath, path: Path) -> Iterator[tuple[KeyPath, str]]:
    """Yield (key path, 'file:line') for every key below `node`; a repeated key is an error."""
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            name = str(key.value)
            if name in seen:
                raise RecipeError(
                    f"{path}:{line}: the key {name!r} was already given on line {seen[name]}; "
                    "keep one of the two."
                )
            seen[name] = line
            yield (*at, name), f"{path}:{line}"
            yield from _places(value, (*at, name), path)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*at, index), f"{path}:{value.start_mark.line + 1}"
            yield from _places(value, (*at, index), path)


def _apply_override(values: dict[str, Any], places: Places, override: str) -> None:
    key, equals, text = override.partition("=")
    place = f"the override {override}"
    if not equals or not key.strip():
        raise RecipeError(f"{place}: expected KEY=VALUE, for example training.epochs=5.")
    try:
        value = yaml.safe_load(text) if text else None
    except yaml.YAMLError:
        raise RecipeError(f"{place}: {text!r} is not a YAML value; put it in quotes.") from None
    *parents, last = key.strip().split(".")
    section = values
    for depth, parent in enumerate(parents):
        inner = section.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise RecipeError(
                f"{place}: {'.'.join(parents[: depth + 1])} holds the value {inner!r}, "
                "so nothing can be set inside it."
            )
        places.setdefault(tuple(parents[: depth + 1]), place)
        section = inner
    section[last] = value
    full = (*parents, last)
    for stale in [p for p in places if p[: len(full)] == full]:
        del places[stale]
    places[full] = place


def _validate(values: dict[str, Any], places: Places, whole: str) -> Recipe:
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        problems = [_explain(details, places, whole) for details in error.errors()]
        raise RecipeError("\n".join(dict.fromkeys(problems))) from None


def _explain(details: ErrorDetails, places: Places, whole: str) -> str:
    """Turn one pydantic error into: place: key: what was given, what is allowed, nearest key."""
    location = _plain_location(details["loc"])
    kind, given = details["type"], details["input"]
    place = _place_of(location, places, whole)
    dotted = ".".join(map(str, location)) or "the recipe"
    if kind == "extra_forbidden":
        allowed = _keys_of_section(location[:-1])
        return (
            f"{place}: unknown key {dotted!r}.{nearest(str(location[-1]), allowed)} "
            f"Allowed here: {', '.join(allowed)}."
        )
    if kind == "missing":
        return f"{place}: the key {dotted!r} is missing; it has no default, so please give it."
    if kind == "literal_error":
        expected = details.get("ctx", {}).get("expected", "")
        names = expected.replace(" or ", ", ").replace("'", "").split(", ")
        return (
            f"{place}: {dotted} is {given!r}.{nearest(str(given), names)} "
            f"Allowed: {', '.join(names)}."
        )
    message = details["msg"].removeprefix("Value error, ")
    if kind == "value_error":
        return f"{place}: {dotted}: {message}."
    message = message[:1].lower() + message[1:]
    return f"{place}: {dotted} is {given!r}; {message.replace('input should', 'it should')}."


def _plain_location(location: tuple[int | str, ...]) -> KeyPath:
    """Drop the parts pydantic adds to name the branch of a union: they are not keys of the file."""
    plain: list[str | int] = []
    for part in location:
        if isinstance(part, str) and plain and _section_at(tuple(plain)) is None:
            continue
        plain.append(part)
    return tuple(plain)


def _place_of(location: KeyPath, places: Places, whole: str) -> str:
    """Return the place of the nearest enclosing key that was written down."""
    for length in range(len(location), 0, -1):
        if location[:length] in places:
            return places[location[:length]]
    return whole


def _keys_of_section(location: KeyPath) -> list[str]:
    section = _section_at(location)
    if section is None:
        return []
    return [field.alias or name for name, field in section.model_fields.items()]


def _section_at(location: KeyPath) -> type[BaseModel] | None:
    """Follow a key path through the schema to the section it names, if it names one."""
    section: type[BaseModel] = Recipe
    for part in location:
        fields = {field.alias or name: field for name, field in section.model_fields.items()}
        if part not in fields:
            return None
        inner = section_in(fields[str(part)].annotation)
        if inner is None:
            return None
        section = inner
    return section


def section_in(annotation: Any) -> type[BaseModel] | None:
    """Return the section that a key's annotation holds, such as that of `Image | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType, Annotated):
        for option in get_args(annotation):
            if (found := section_in(option)) is not None:
                return found
    return None


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """Return the recipe with its data, schema and weight paths made absolute.

    A run saves this form, so that it can be repeated from any folder. Catalogue names stay names.
    """
    data, model = recipe.data, recipe.model
    if data.tabular is not None:
        table = data.tabular
        update = {"path": _absolute(table.path), "schema_path": _absolute(table.schema_path)}
        data = data.model_copy(update={"tabular": table.model_copy(update=update)})
    if data.image is not None:
        image = data.image.model_copy(update={"path": _absolute(data.image.path)})
        data = data.model_copy(update={"image": image})
    if data.image_text is not None:
        data = data.model_copy(update={"image_text": _absolute_pairs(data.image_text)})
    contrastive = recipe.contrastive
    if contrastive is not None and contrastive.teacher is not None:
        update = {"teacher": _absolute(contrastive.teacher)}
        contrastive = contrastive.model_copy(update=update)
    if model.architecture.weights is not None:
        update = {"weights": _absolute(model.architecture.weights)}
        architecture = model.architecture.model_copy(update=update)
        model = model.model_copy(update={"architecture": architecture})
    changed = {"data": data, "model": model, "contrastive": contrastive}
    return recipe.model_copy(update=changed)


def _absolute_pairs(pairs: ImageTextData) -> ImageTextData:
    """The same; a domain or tokenizer may be a name instead of a path."""
    update = {"path": _absolute(pairs.path)}
    if pairs.tokenizer != "auto":
        update["tokenizer"] = _absolute(pairs.tokenizer)
    if pairs.domain.endswith((".yaml", ".yml")):
        update["domain"] = _absolute(pairs.domain)
    return pairs.model_copy(update=update)


def _absolute(path: str | None) -> str | None:
    if path is None or path.startswith(("catalogue:", "hub:")):
        return path
    return str(Path(path).absolute())
