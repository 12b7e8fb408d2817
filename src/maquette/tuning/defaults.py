"""What is searched when a recipe does not say, and where the search begins.

Only the losses of image-text pairs have ranges of their own: for other tasks there is nothing that
every recipe should search.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from maquette.recipe import Recipe
from maquette.recipe.image_text import Contrastive, SearchRange
from maquette.tasks.image_text.domains import Domain, read_domain
from maquette.tasks.image_text.loss_parameters import PARAMETERS, TEMPERATURE_RANGE, start_of

PARAMETER = "contrastive.parameters."
TEMPERATURE = "contrastive.temperature"


def default_space(recipe: Recipe) -> dict[str, SearchRange]:
    """Return the parameters of the recipe's loss, in the domain's ranges or else the loss's own,
    and the temperature; nothing for a task without such a loss.

    Raises:
        UsageError: there is no such domain.
    """
    if recipe.data.image_text is None:
        return {}
    loss, domain = _loss_of(recipe)
    own = {
        name: SearchRange(low=parameter.low, high=parameter.high, log=parameter.log)
        for name, parameter in PARAMETERS.get(loss, {}).items()
    }
    ranges = own | (domain.loss.ranges if loss == domain.loss.name else {})
    low, high = TEMPERATURE_RANGE
    return {
        **{f"{PARAMETER}{name}": values for name, values in ranges.items()},
        TEMPERATURE: SearchRange(low=low, high=high, log=True),
    }


def default_values(recipe: Recipe) -> Mapping[str, float]:
    """Return the values that a recipe leaves to its loss and domain, by recipe key."""
    if recipe.data.image_text is None:
        return {}
    loss, domain = _loss_of(recipe)
    known = {name: parameter.default for name, parameter in PARAMETERS.get(loss, {}).items()}
    if loss == domain.loss.name:
        known |= domain.loss.parameters
    return {
        **{f"{PARAMETER}{name}": value for name, value in known.items()},
        TEMPERATURE: math.exp(-start_of(loss).logit_scale),
    }


def _loss_of(recipe: Recipe) -> tuple[str, Domain]:
    assert recipe.data.image_text is not None, "the callers look"
    domain = read_domain(recipe.data.image_text.domain)
    named = (recipe.contrastive or Contrastive()).loss
    return (domain.loss.name if named == "auto" else named), domain
