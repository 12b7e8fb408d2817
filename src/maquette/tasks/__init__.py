"""The tasks: one folder per modality, and this table. To add a modality, add a folder and a line.

Each entry imports its task when asked, so reading a table does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from maquette.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from maquette.recipe import Recipe
    from maquette.tasks.base import DataReport, Task


def _tabular(recipe: Recipe) -> Task[Any]:
    from maquette.tasks.tabular.task import TabularTask

    return TabularTask(recipe)


def _vision(recipe: Recipe) -> Task[Any]:
    from maquette.tasks.vision.task import VisionTask

    return VisionTask(recipe)


def _image_text(recipe: Recipe) -> Task[Any]:
    from maquette.tasks.image_text.task import ImageTextTask

    return ImageTextTask(recipe)


TASKS: Mapping[str, Callable[[Recipe], Task[Any]]] = {
    "tabular": _tabular,
    "vision": _vision,
    "image_text": _image_text,
}


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
    if recipe.data.image_text is not None:
        from maquette.tasks.image_text.data import check_pairs
        from maquette.tasks.image_text.loss_parameters import check_parameters
        from maquette.tasks.image_text.setup import setup_of

        setup = setup_of(recipe)
        check_parameters(setup.loss, setup.loss_parameters)
        return check_pairs(recipe.data.image_text)
    from maquette.tasks.vision.data import check_images

    assert recipe.data.image is not None, "Recipe._data_fits_model guarantees one of the three"
    return check_images(recipe.data.image)


def suggest_recipe(path: Path, *, target: str | None) -> str:
    """Look at a table or a folder of images and return a commented recipe that trains as it is.

    Raises:
        DataError: there is nothing there that could be learned from.
        UsageError: `target` is not a column, or given for images.
    """
    if path.is_dir():
        if target is not None:
            raise UsageError(
                f"{path} is a folder of images, whose folders name the classes; leave --target out."
            )
        from maquette.tasks.vision.suggest import suggest_recipe as suggest_for_images

        return suggest_for_images(path)
    from maquette.tasks.tabular.suggest import suggest_recipe as suggest_for_table

    return suggest_for_table(path, target=target)
