"""The results of an evaluation as text: CSV files and what is printed.

In: scored utterances and the numbers of `evaluate.summary`. Out: strings.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from paraformer_asr.alignment import Alignment, ErrorRate, mark

WORST = 5
"""Utterances whose alignments are printed."""
CONFUSIONS = 8
"""Confusions that are printed; the file has all."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One utterance and what was heard."""

    index: int
    """In the dataset."""
    name: str
    speaker: str
    """Empty if not known."""
    reference: str
    hypothesis: str
    alignment: Alignment
    errors: ErrorRate

    @property
    def rank(self) -> tuple[float, int, int]:
        """Sorts the best first: by errors per token, then errors, then place in the dataset."""
        return self.errors.edits / max(len(self.reference), 1), self.errors.edits, self.index


def confusions(scored: Iterable[Scored]) -> list[tuple[str, str, str, int]]:
    """(kind, said, heard, count), the most frequent first; "" where one side has nothing."""
    found = Counter(
        (mark(pair), pair[0] or "", pair[1] or "")
        for each in scored
        for pair in each.alignment.pairs
        if mark(pair) in "SDI"
    )
    ranked = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return [(*key, count) for key, count in ranked]


def utterance_table(scored: Sequence[Scored]) -> str:
    """CSV with a row for each utterance, in the order of the dataset."""
    rows = [
        (
            each.name,
            each.reference,
            each.hypothesis,
            each.errors.substitutions,
            each.errors.deletions,
            each.errors.insertions,
            each.speaker,
        )
        for each in scored
    ]
    return as_csv(("name", "reference", "hypothesis", "S", "D", "I", "speaker"), rows)


def confusion_table(found: Sequence[tuple[str, str, str, int]]) -> str:
    """CSV of `confusions`."""
    return as_csv(("kind", "reference", "hypothesis", "count"), found)


def as_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def report(values: dict[str, Any], scored: Sequence[Scored]) -> str:
    """The numbers as text: a table, the speakers, the worst utterances, frequent confusions."""
    parts = [overview(values)]
    if values["speakers"]:
        parts.append(speaker_lines(values["speakers"]))
    worst = sorted((each for each in scored if each.errors.edits), key=lambda each: each.rank)
    worst = worst[: -WORST - 1 : -1]
    if not worst:
        return "\n\n".join([*parts, "No utterance has an error."])
    shown = [f"{each.name}\n{each.alignment}" for each in worst]
    parts.append("\n\n".join(["Worst utterances:", *shown]))
    rows = [
        f"{count:6d}  {said or '(nothing)'} heard as {heard or '(nothing)'}"
        for _, said, heard, count in confusions(scored)[:CONFUSIONS]
    ]
    parts.append("\n".join(["Most frequent confusions:", *rows]))
    return "\n\n".join(parts)


def overview(values: dict[str, Any]) -> str:
    """One line for each number, with what it means."""
    cer, pace = values["cer"], values["speed"]
    miscounted = f"wrong number of tokens in {100 * values['miscounted']:.2f} % of utterances"
    terms = ", ".join(f"{name} {value:.4g}" for name, value in values["losses"].items())
    return "\n".join(
        [
            f"{values['split']}: {values['utterances']} utterances, {cer['reference_length']} "
            f"tokens; {values['checkpoint']}, step {values['step']}",
            f"  CER               {rate_text(cer)}",
            f"  normalization     {values['normalization']}",
            f"  sentences wrong   {100 * values['sentence_error_rate']:.2f} %",
            f"  token accuracy    {100 * values['token_accuracy']:.2f} % (their number given)",
            f"  count error       {values['count_error']:.3f} tokens, the mean of "
            f"|sum of alphas - true number|; {miscounted}",
            f"  loss              {values['loss']:.4g} ({terms})",
            f"  real time factor  {pace['real_time_factor']:.5f} without features, "
            f"{pace['real_time_factor_with_prepare']:.5f} with {pace['prepare']}",
            f"                    on {pace['hardware']}, {pace['threads']} threads, batches of "
            f"{pace['batch_frames']} frames, {pace['audio_seconds']:.1f} s of audio",
        ]
    )


def speaker_lines(speakers: dict[str, Any]) -> str:
    """A table with a row for each speaker."""
    width = max(len("speaker"), *map(len, speakers))
    rows = [f"  {'speaker':{width}}  utterances  CER"]
    rows += [
        f"  {name:{width}}  {values['utterances']:10d}  {rate_text(values)}"
        for name, values in speakers.items()
    ]
    return "\n".join(rows)


def rate_text(values: dict[str, Any]) -> str:
    """An error rate in words, of the values in the JSON file."""
    rate = math.inf if values["rate"] is None else values["rate"]
    counts = ("substitutions", "deletions", "insertions", "reference_length")
    return str(ErrorRate(rate, *(values[name] for name in counts)))
