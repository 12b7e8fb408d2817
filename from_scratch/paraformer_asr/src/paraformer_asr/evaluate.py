"""How good a trained model is on a split: numbers, tables and a picture.

In: a loaded model and the name of a split. Out: printed tables, and in a folder
`evaluation_SPLIT.json` (all numbers), `utterances_SPLIT.csv` (each with its errors),
`confusions_SPLIT.csv` (which token was heard for which) and `examples_SPLIT.png` (the worst, the
median and the best utterance).

Rates are over the corpus: all edits divided by all reference tokens, never a mean of utterances'
rates. Start reading at `evaluate_run`.
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paraformer_asr.alignment import align
from paraformer_asr.checkpoints import Loaded
from paraformer_asr.data.batches import Batch, Batches
from paraformer_asr.data.build import build_datasets
from paraformer_asr.data.join import JoinedSpeech
from paraformer_asr.data.manifest import ManifestSpeech
from paraformer_asr.data.utterance import Dataset
from paraformer_asr.decode import decode_batch
from paraformer_asr.errors import AsrError
from paraformer_asr.files import write_atomic
from paraformer_asr.infer import as_json, evaluating, look, make_folder
from paraformer_asr.losses import Losses
from paraformer_asr.masks import length_mask
from paraformer_asr.metrics import Normalization, error_rate
from paraformer_asr.picture import draw
from paraformer_asr.settings import nearest
from paraformer_asr.tables import Scored, confusion_table, confusions, report, utterance_table


@dataclass(kw_only=True)
class Sums:
    """What is added up over the batches of a split."""

    heard: dict[str, str] = field(default_factory=dict)
    """Hypotheses by the names of utterances."""
    losses: dict[str, Tensor] = field(default_factory=dict)
    """Sums of the terms of the loss."""
    token_lens: list[Tensor] = field(default_factory=list)
    right: int = 0
    """Tokens named rightly when their true number is given."""
    audio_seconds: float = 0.0
    decode_seconds: float = 0.0
    prepare_seconds: float = 0.0


def evaluate_run(
    loaded: Loaded, split: str, *, out: Path, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Score a model on a split of the data that its configuration names.

    Args:
        split: train, valid or test. Changes of training utterances are not made.
        out: folder for the results; made if it is not there.
        say: is given the tables.
    Returns:
        What `evaluation_SPLIT.json` holds: see `summary`.
    Raises:
        AsrError: no such split, data that cannot be read, `out` cannot be made.
    """
    datasets = build_datasets(loaded.config)
    if split not in datasets:
        raise AsrError(
            f"{split!r} is no split.{nearest(split, datasets)} Splits: {', '.join(datasets)}."
        )
    make_folder(out)
    dataset = datasets[split]
    losses = Losses(loaded.config.loss)
    sums = decode_split(loaded, dataset, losses)
    scored = score(dataset, sums.heard)
    values = summary(loaded, split, scored, sums, losses)

    write_atomic(out / f"evaluation_{split}.json", as_json(values))
    write_atomic(out / f"utterances_{split}.csv", utterance_table(scored))
    write_atomic(out / f"confusions_{split}.csv", confusion_table(confusions(scored)))
    draw_examples(loaded, dataset, scored, out / f"examples_{split}.png")
    say(report(values, scored))
    return values


def decode_split(loaded: Loaded, dataset: Dataset, losses: Losses) -> Sums:
    """Decode every utterance once, and compute the loss as validation does."""
    model, config = loaded.model, loaded.config
    batches = Batches(dataset, model.frontend, model.tokenizer, config, train=False)
    sums = Sums()
    with evaluating(model):
        for position in range(batches.num()):
            start = time.perf_counter()
            batch = batches.get(0, position)
            sums.prepare_seconds += time.perf_counter() - start
            if position == 0:  # the first pass sets up what later ones find ready
                decode_batch(model, *to_device(batch, loaded.device))
            start = time.perf_counter()
            hypotheses = decode_batch(model, *to_device(batch, loaded.device))
            sums.decode_seconds += time.perf_counter() - start  # they are text: all is computed
            sums.audio_seconds += int(batch.feat_lens.sum()) * model.frontend.frame_seconds
            for name, hypothesis in zip(batch.names, hypotheses, strict=True):
                sums.heard[name] = hypothesis.text
            add_losses(loaded, losses, batch.to(loaded.device), sums)
    return sums


def to_device(batch: Batch, device: torch.device) -> tuple[Tensor, Tensor]:
    return batch.feats.to(device), batch.feat_lens.to(device)


def add_losses(loaded: Loaded, losses: Losses, batch: Batch, sums: Sums) -> None:
    """Add the terms of the loss, and how many tokens are right when their number is given."""
    outputs = loaded.model(batch.feats, batch.feat_lens, batch.tokens, batch.token_lens)
    for name, part in losses.sums(outputs, batch.tokens, batch.token_lens).items():
        sums.losses[name] = sums.losses.get(name, torch.zeros_like(part)) + part
    sums.token_lens.append(outputs.token_lens)
    real = length_mask(outputs.token_lens, outputs.tokens.shape[1])
    sums.right += int(((outputs.logits.argmax(dim=2) == outputs.tokens) & real).sum())


def score(dataset: Dataset, heard: dict[str, str]) -> list[Scored]:
    """Align what was heard with what was said, in the order of the dataset."""
    speakers = speakers_of(dataset)
    scored = []
    for index, name in enumerate(dataset.names):
        reference = dataset.load(index).text
        alignment = align(reference, heard[name])
        scored.append(
            Scored(
                index=index,
                name=name,
                speaker=speakers[index],
                reference=reference,
                hypothesis=heard[name],
                alignment=alignment,
                errors=alignment.error_rate,
            )
        )
    return scored


def speakers_of(dataset: Dataset) -> list[str]:
    """The speaker of each utterance; empty where the dataset does not know."""
    if isinstance(dataset, ManifestSpeech):
        return [line.speaker for line in dataset.lines]
    if isinstance(dataset, JoinedSpeech):  # a joined utterance is of one speaker
        return [dataset.lines[joint.pieces[0]].speaker for joint in dataset.plan(0)]
    return [""] * len(dataset)


def summary(
    loaded: Loaded, split: str, scored: Sequence[Scored], sums: Sums, losses: Losses
) -> dict[str, Any]:
    """All numbers of an evaluation, as plain values; rates are parts of 1, null if infinite."""
    token_lens = torch.cat(sums.token_lens)
    counts = losses.counts(token_lens)
    wrong = sum(bool(each.errors.edits) for each in scored)
    miscounted = sum(each.errors.deletions != each.errors.insertions for each in scored)
    return {
        "split": split,
        "checkpoint": str(loaded.path),
        "step": loaded.step,
        "utterances": len(scored),
        "cer": rate_values(scored),
        "normalization": str(Normalization()),
        "sentence_error_rate": wrong / len(scored),
        "token_accuracy": sums.right / max(int(token_lens.sum()), 1),
        "count_error": float(sums.losses["quantity"]) / max(counts["quantity"], 1),
        "miscounted": miscounted / len(scored),
        "loss": float(losses.total(sums.losses, counts)),
        "losses": {name: float(sums.losses[name]) / max(counts[name], 1) for name in sums.losses},
        "speakers": {
            speaker: rate_values([each for each in scored if each.speaker == speaker])
            for speaker in sorted({each.speaker for each in scored} - {""})
        },
        "speed": speed(loaded, sums),
    }


def rate_values(scored: Sequence[Scored]) -> dict[str, Any]:
    """The error rate of some utterances, and their number."""
    references, hypotheses = zip(*((e.reference, e.hypothesis) for e in scored), strict=True)
    values = asdict(error_rate(references, hypotheses))
    rate = values["rate"]
    return {**values, "rate": rate if math.isfinite(rate) else None, "utterances": len(scored)}


def speed(loaded: Loaded, sums: Sums) -> dict[str, Any]:
    """Processing time by duration of the audio, and all that it depends on."""
    audio = max(sums.audio_seconds, 1e-9)
    data = loaded.config.data
    made = "drawing toy utterances" if data.kind == "toy" else "features of recordings in memory"
    return {
        "audio_seconds": round(sums.audio_seconds, 3),
        "decode_seconds": round(sums.decode_seconds, 4),
        "real_time_factor": sums.decode_seconds / audio,
        "prepare_seconds": round(sums.prepare_seconds, 4),
        "real_time_factor_with_prepare": (sums.decode_seconds + sums.prepare_seconds) / audio,
        "prepare": f"{made}, stacking, normalisation and padding",
        "hardware": hardware(loaded.device),
        "threads": torch.get_num_threads(),
        "batch_frames": data.batch_frames,
        "max_batch": data.max_batch,
    }


def hardware(device: torch.device) -> str:
    """The name of the GPU, or of the processor as far as the system tells it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()} ({device.type})"
    return f"{platform.processor() or platform.machine()} ({device.type})"


def draw_examples(loaded: Loaded, dataset: Dataset, scored: Sequence[Scored], path: Path) -> None:
    """Draw the worst, the median and the best utterance; fewer if there are fewer."""
    ranked = sorted(scored, key=lambda each: each.rank)
    places = {"worst": len(ranked) - 1, "median": len(ranked) // 2, "best": 0}
    chosen: dict[int, str] = {}
    for title, place in places.items():
        chosen.setdefault(ranked[place].index, title)
    views = []
    for index, title in chosen.items():
        utterance = dataset.load(index)
        errors = scored[index].errors
        counted = f"{errors.edits} errors in {errors.reference_length} tokens"
        views.append(
            look(
                loaded.model,
                utterance.frames,
                title=f"{title}: {utterance.name}, {counted}",
                reference=utterance.text,
            )
        )
    draw(views, path)
