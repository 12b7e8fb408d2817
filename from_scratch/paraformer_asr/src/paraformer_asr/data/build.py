"""A configuration goes in; checked datasets and the tokenizer come out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from paraformer_asr.config import Config
from paraformer_asr.data.check import check
from paraformer_asr.data.join import JoinedSpeech
from paraformer_asr.data.manifest import SPLITS, ManifestSpeech, listed, read_manifest
from paraformer_asr.data.recordings import Recordings
from paraformer_asr.data.toy import ToySpeech
from paraformer_asr.data.utterance import Dataset
from paraformer_asr.tokenizer import Tokenizer

log = logging.getLogger(__name__)


def build_datasets(
    config: Config, *, warn: Callable[[str], None] = log.warning
) -> dict[str, Dataset]:
    """Make train, valid and test, after all checks.

    Args:
        warn: is given what was found odd, one text at most; by default logged, which Python shows
            on stderr.
    Raises:
        AsrError: lists everything that must be mended in the data.
    """
    recordings = Recordings(config.features)
    report = check(config, recordings)
    report.raise_errors()
    if report.warnings:
        warn(listed(report.warnings))
    data = config.data
    if data.kind == "toy":
        mels = config.features.num_mels
        return {s: ToySpeech(data.toy, mels, split=s, seed=config.seed) for s in SPLITS}
    assert data.manifest is not None  # DataConfig refuses kind=manifest without it
    lines = read_manifest(data.manifest)
    kind = ManifestSpeech if data.manifest.join is None else JoinedSpeech
    return {split: kind(config, lines, split=split, recordings=recordings) for split in SPLITS}


def build_tokenizer(config: Config, datasets: Mapping[str, Dataset]) -> Tokenizer:
    """data.characters if given, the toy alphabet, or every character of the training texts."""
    if config.data.characters:
        return Tokenizer(config.data.characters)
    if config.data.kind == "toy":
        return Tokenizer(config.data.toy.alphabet)
    return Tokenizer.build(datasets["train"].texts())
