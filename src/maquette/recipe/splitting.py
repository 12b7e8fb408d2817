"""How samples are dealt to training, validation and test; shared by all kinds of data."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from maquette.recipe.section import Fraction, Section


class SplitRule(Section):
    """How rows or images are dealt to train, validation and test."""

    method: Literal["auto", "stratified", "random", "grouped", "time", "column"] = "auto"
    """`auto` is stratified for classes and random for numbers; `time` keeps the latest for test."""
    column: str | None = None
    """The group, time or split column; needed by `grouped`, `time` and `column`."""

    @model_validator(mode="after")
    def _column_where_needed(self) -> Self:
        if self.method in ("grouped", "time", "column") and self.column is None:
            raise ValueError(
                f"split method {self.method!r} needs split.column, the name of a column"
            )
        return self


class Splitting(Section):
    """The three ratios and the rule; shared by tables and images."""

    train_split: Fraction = 0.7
    """Share of the samples to learn from."""
    validation_split: Fraction = 0.15
    """Share that early stopping and checkpoint choice look at."""
    test_split: Fraction = 0.15
    """Share that only the final evaluation looks at."""
    split: SplitRule = SplitRule()
    """Which rule deals the samples."""
    tolerance: Fraction = 0.0
    """Largest share of bad rows or files that may be set aside before the run refuses the data."""

    @model_validator(mode="after")
    def _splits_sum_to_one(self) -> Self:
        total = self.train_split + self.validation_split + self.test_split
        if abs(total - 1) > 1e-6:
            rest = 1 - self.train_split - self.validation_split
            fix = f"; test_split: {rest:.4g} would do" if 0 <= rest <= 1 else ""
            raise ValueError(
                f"train_split {self.train_split:g} + validation_split {self.validation_split:g} + "
                f"test_split {self.test_split:g} = {total:g}, expected 1{fix}"
            )
        for name in ("train_split", "validation_split", "test_split"):
            if getattr(self, name) == 0 and self.split.method != "column":
                raise ValueError(f"{name} is 0; every split needs samples, give it at least 0.05")
        return self
