"""The tasks: one folder per modality, and this table. To add a modality, add a folder and a line.

Each entry imports its task when asked, so reading a table does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maquette.recipe import Recipe
    from maquette.tasks.base import DataReport, Task


def _tabular(recipe: Recipe) -> Task[Any]:
    from maquette.tasks.tabular.task import TabularTask

    return TabularTask(recipe)


def _vision(recipe: Recipe) -> Task[Any]:
    from maquette.tasks.vision.task import VisionTask

    return VisionTask(recipe)


TASKS: Mapping[str, Callable[[Recipe], Task[Any]]] = {"tabular": _tabular, "vision": _vision}


def make_task(recipe: Recipe) -> Task[Any]:
    """Return the task of `recipe.model.type`; the table above is the whole list."""
    return TASKS[recipe.model.type](recipe)


def check_data(recipe: Recipe) -> DataReport:
    """Read and validate a recipe's data without importing torch.

    Raises:
        DataError: lists every violation with row, column and value, or every bad file.
    """
    if recipe.data.tabular is not None:
        from maquette.tasks.tabular.data import check_table

        return check_table(recipe.data.tabular)
    from maquette.tasks.vision.data import check_images

    assert recipe.data.image is not None, "Recipe._data_fits_model guarantees one of the two"
    return check_images(recipe.data.image)
