"""`maquette check`: a recipe with its data, or a table or image folder by itself. Imports no torch.

A table without a recipe is held against a given JSON Schema, or against the kinds its own columns
show; with a recipe the target, the splits and the tolerance are checked too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from maquette.errors import DataError, UsageError
from maquette.files import write_json

if TYPE_CHECKING:
    from maquette.data.tables import Table
    from maquette.recipe import Recipe
    from maquette.tasks.base import DataReport

SHOWN = 1000
"""Violations listed in a message; the rest are counted."""


def check_source(
    source: str,
    overrides: Sequence[str] = (),
    *,
    schema: Path | None = None,
    infer_schema: Path | None = None,
) -> list[str]:
    """Check a recipe, a table or a folder of images, and return lines that say what was found.

    Args:
        source: a recipe (.yaml), a CSV or Parquet file, a folder of images, or catalogue:NAME.
        schema: JSON Schema of one row, for a table without a recipe.
        infer_schema: where to write the schema that the table suggests.
    Raises:
        DataError: lists every violation with row, column, value and what was expected, or every
            bad image with its reason.
    """
    if source.endswith((".yaml", ".yml")):
        return _check_recipe(source, overrides, schema, infer_schema)
    if overrides:
        raise UsageError(
            f"{source} is not a recipe, so {overrides[0]!r} changes nothing; "
            "give a recipe (.yaml), or leave the overrides out."
        )
    from maquette.data.catalogue import resolve

    path = resolve(source)
    if path.is_dir():
        return _check_folder(path)
    return _check_table(path, schema, infer_schema)


def _check_recipe(
    source: str, overrides: Sequence[str], schema: Path | None, infer_schema: Path | None
) -> list[str]:
    from maquette.recipe import read_recipe
    from maquette.tasks import check_data

    if schema is not None:
        overrides = [*overrides, f"data.tabular.schema={schema}"]
    recipe = read_recipe(source, overrides)
    if infer_schema is not None:
        _write_schema_of(recipe, infer_schema)
    return _lines(check_data(recipe)) + _written(infer_schema)


def _check_folder(path: Path) -> list[str]:
    from maquette.recipe.schema import ImageData
    from maquette.tasks.vision.checking import read_images

    data = ImageData(path=str(path), image_size=(64, 64))
    return _lines(read_images(data, keep_pixels=False, least_classes=1).report)


def _check_table(path: Path, schema: Path | None, infer_schema: Path | None) -> list[str]:
    from maquette.data.schema_file import read_schema
    from maquette.data.table_schema import infer_schema as infer
    from maquette.data.table_schema import violations
    from maquette.data.tables import read_table
    from maquette.recipe.schema import TabularData

    missing = TabularData.model_fields["missing_values"].default
    table = read_table(path, missing_values=missing)
    inferred = infer(table)
    if infer_schema is not None:
        write_json(infer_schema, inferred)
    found = violations(table, read_schema(schema) if schema else inferred)
    if found:
        shown = "\n".join(f"  {violation}" for violation in found[:SHOWN])
        rest = f"\n  … and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise DataError(f"{path} has {len(found)} violations:\n{shown}{rest}")
    return [_shape(path, table), *_written(infer_schema)]


def _shape(path: Path, table: Table) -> str:
    return f"{path}: {len(table)} rows, {len(table.columns)} columns, no violations"


def _write_schema_of(recipe: Recipe, output: Path) -> None:
    """Write the schema that a recipe's table suggests, its own settings respected."""
    from maquette.data.catalogue import resolve
    from maquette.data.table_schema import infer_schema as infer
    from maquette.tasks.tabular.reading import read_as

    data = recipe.data.tabular
    if data is None:
        raise UsageError("--infer-schema describes tables; this recipe's data are images.")
    schema = infer(
        read_as(data, resolve(data.path)),
        target=data.target_column,
        categorical_columns=data.categorical_columns,
        ignore_columns=data.ignore_columns,
    )
    write_json(output, schema)


def _lines(report: DataReport) -> list[str]:
    sizes = report.summary.get("splits", {})
    dealt = ", ".join(f"{size} {name}" for name, size in sizes.items())
    lines = [f"{report.source}: {report.num_samples} samples" + (f" ({dealt})" if dealt else "")]
    lines += [f"set aside: {entry['place']}: {entry['reason']}" for entry in report.quarantined]
    lines += [f"note: {warning}" for warning in report.warnings]
    if not report.quarantined:
        lines.append("no violations")
    return lines


def _written(schema: Path | None) -> list[str]:
    return [f"schema written to {schema}"] if schema else []
