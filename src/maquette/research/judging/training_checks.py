"""Checks of the trainings in a run's record: epochs, falling losses, nothing NaN or infinite."""

from __future__ import annotations

from maquette.research.judging.verdict import Case, Verdict, finite, place, shown
from maquette.research.records import Training

EPOCHS = 2
"""Fewer epochs cannot show that the loss falls."""


def enough_epochs(case: Case) -> Verdict:
    """It trained as many epochs as it was asked for, two at least."""
    epochs = case.record.epochs
    short = [
        f"{place(training)}: {len(training.losses)}"
        for training in case.record.trainings
        if training.losses and len(training.losses) < max(EPOCHS, epochs)
    ]
    if epochs >= EPOCHS and not short:
        return Verdict("epochs", True, f"{epochs} epochs")
    found = f"the record says {epochs} epochs"
    if short:
        found += f"; losses of fewer: {shown(short)}"
    remedy = f"pass --epochs on to the trainer; a validation needs {EPOCHS} at least"
    return Verdict("epochs", False, found, remedy)


def loss_falls(case: Case) -> Verdict:
    """The last epoch's mean loss is below the first's, in every training by epochs."""
    name = "loss falls"
    trained = [training for training in case.record.trainings if training.losses]
    if not trained:
        remedy = "give the mean training loss of each epoch as `losses` of the record"
        return Verdict(name, False, "no training has losses", remedy)
    rises = [
        f"{place(training)}: {_number(training.losses[0])} to {_number(training.losses[-1])}"
        for training in trained
        if not _falls(training)
    ]
    if rises:
        remedy = "use a smaller learning rate; check the loss's sign and optimizer.step()"
        return Verdict(name, False, f"not in {shown(rises)}", remedy)
    return Verdict(name, True, f"in all {len(trained)} trainings by epochs")


def _falls(training: Training) -> bool:
    first, last = training.losses[0], training.losses[-1]
    return first is not None and last is not None and last < first


def _number(value: float | None) -> str:
    return "no number" if value is None else f"{value:.4g}"


def losses_finite(case: Case) -> Verdict:
    """No loss is NaN or infinite."""
    bad = [
        f"{place(training)}: epoch {epoch}"
        for training in case.record.trainings
        for epoch, loss in enumerate(training.losses, 1)
        if not finite(loss)
    ]
    bad += case.evidence.bad_losses
    if bad:
        remedy = "use a smaller learning rate; look for log(0), division by 0, missing values"
        return Verdict("finite losses", False, f"NaN or infinite in {shown(bad)}", remedy)
    count = sum(len(training.losses) for training in case.record.trainings)
    return Verdict("finite losses", True, f"all {count}")


def gradients_finite(case: Case) -> Verdict:
    """No gradient is NaN or infinite: as seen before each optimiser step, and in the record."""
    evidence, name = case.evidence, "finite gradients"
    bad = list(evidence.bad_gradients)
    bad += [
        f"{place(training)}: epoch {epoch}"
        for training in case.record.trainings
        for epoch, norm in enumerate(training.grad_norms, 1)
        if not finite(norm)
    ]
    if bad:
        remedy = "use a smaller learning rate, or clip the gradient norm"
        return Verdict(name, False, f"NaN or infinite in {shown(bad)}", remedy)
    if not evidence.observed or evidence.steps == 0:
        norms = sum(len(training.grad_norms) for training in case.record.trainings)
        return Verdict(name, True, f"no optimiser step was seen; {norms} norms in the record")
    return Verdict(name, True, f"in all {evidence.steps} optimiser steps")
