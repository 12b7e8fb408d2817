"""The recipe room: `schema.py` says what a recipe may hold, `reading.py` reads and explains."""

from maquette.recipe.reading import dump_recipe, make_recipe, read_recipe, with_absolute_paths
from maquette.recipe.schema import Recipe

__all__ = ["Recipe", "dump_recipe", "make_recipe", "read_recipe", "with_absolute_paths"]
