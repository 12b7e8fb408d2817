"""Whole FunASR Paraformers, small and with made-up weights, read by paraformer_asr's `load_funasr`.

Both published types: SAN-M encoder and decoder (Paraformer-large), conformer and SAN decoder (the
AISHELL recipe). Stored numbers run in the ordinary suite, with the checkpoint made here from the
names and shapes the reference reported; with `-m peers` FunASR runs just now with another seed and
the checkpoints are those it saved itself.

Equal: encoder frames, number of tokens and logits of each utterance alone; the decoders on a padded
batch, with gradients; a training pass with the gradient of every parameter. Not equal, on purpose:
in a batch the reference's results depend on the padding (its predictors' convolution and its
conformer's read it), ours do not.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from asr_model_cases import CONFIG, DIM, VOCAB, condense, feats, fill_state, memory, probe, vectors
from facts import read_facts
from paraformer_asr.convert import Converted, load_funasr
from paraformer_asr.models import Paraformer
from torch import Tensor

LIVE_SEED = 1
TOLERANCE = 2e-5
"""Frames agree to 1e-6; the reference's token vectors are differences of float32 running sums."""
KINDS = tuple(CONFIG)
TOKENS = ["<blank>", "<s>", "</s>", *"abcdefgh", "<unk>"]


class Case(NamedTuple):
    """What the reference computed, and its checkpoints read by ours."""

    seed: int
    facts: dict[str, Any]
    converted: dict[str, Converted]

    def model(self, kind: str) -> Paraformer:
        return self.converted[kind].model


@pytest.fixture(scope="module", params=["golden", pytest.param("live", marks=pytest.mark.peers)])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder: Path = tmp_path_factory.mktemp("asr")
    facts = read_facts(request.param, "asr_model", folder, seed=LIVE_SEED)
    seed = facts["made with"]["seed"]
    (folder / "tokens.json").write_text(json.dumps(TOKENS))
    if request.param == "golden":
        for kind, known in facts["models"].items():
            state = fill_state(known["shapes"], seed)
            torch.save({"state_dict": state}, folder / f"{kind}.pt")
    converted = {kind: load_funasr(folder / f"{kind}.pt") for kind in KINDS}
    return Case(seed, facts["models"], converted)


def close(actual: Tensor, expected: Any, tolerance: float = TOLERANCE) -> None:
    wanted = expected if isinstance(expected, Tensor) else torch.tensor(expected)
    torch.testing.assert_close(actual, wanted, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_finds_its_place(case: Case, kind: str):
    report = case.converted[kind].report
    assert report.unmatched == ()
    assert report.unfilled == ("frontend.shift", "frontend.scale")
    assert sum(len(names) for names in report.mapped.values()) == len(case.facts[kind]["shapes"])
    expected = fill_state(case.facts[kind]["shapes"], case.seed)
    own = case.model(kind).state_dict()
    for ours, theirs in report.mapped.items():
        stacked = torch.cat([torch.atleast_1d(expected[name]).flatten() for name in theirs])
        assert torch.equal(own[ours].flatten(), stacked), ours


@pytest.mark.parametrize("kind", KINDS)
def test_each_utterance_alone_gives_the_references_frames_counts_and_logits(case: Case, kind: str):
    model, (x, lens) = case.model(kind), feats(kind, case.seed)
    for b, T in enumerate(lens.tolist()):
        theirs = case.facts[kind]["alone"][b]
        with torch.no_grad():
            hidden, hidden_lens = model.encode(x[b : b + 1, :T], lens[b : b + 1])
        close(hidden, theirs["hidden"])
        assert hidden_lens.tolist() == theirs["hidden lens"]
        prediction = model.predict(x[b : b + 1, :T], lens[b : b + 1])
        assert prediction.counts.tolist() == theirs["counts"]
        close(prediction.logits, theirs["logits"])


@pytest.mark.parametrize("kind", KINDS)
def test_in_a_batch_ours_stays_and_the_reference_moves(case: Case, kind: str):
    model, (x, lens) = case.model(kind), feats(kind, case.seed)
    batch = model.predict(x, lens)
    for b, theirs in enumerate(case.facts[kind]["alone"]):
        assert batch.counts[b : b + 1].tolist() == theirs["counts"]
        close(batch.logits[b, : int(batch.counts[b])], theirs["logits"][0])
    frames, totals = zip(*case.facts[kind]["batch differs"], strict=True)
    assert max(frames[0], totals[0]) < 1e-5  # the longest has no padding
    assert min(totals[1:]) > 1e-3
    assert (min(frames[1:]) > 1e-3) == (kind == "aishell")


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_pass_has_the_references_gradient_in_every_parameter(case: Case, kind: str):
    model, (x, lens) = case.model(kind), feats(kind, case.seed)
    theirs = case.facts[kind]["training"]
    asked = torch.tensor([theirs["tokens"]])
    hidden, hidden_lens = model.encode(x[:1, : lens[0]], lens[:1])
    predicted = model.predictor(hidden, hidden_lens, asked)
    logits = model.decoder(predicted.embeds, asked, hidden, hidden_lens)
    close(logits, theirs["logits"])
    assert predicted.total.item() == pytest.approx(theirs["total"], abs=TOLERANCE)
    loss = (logits * probe(tuple(logits.shape))).sum() + predicted.total.sum()
    if model.ctc is not None:
        ctc_logits = model.ctc(hidden)
        loss = loss + (ctc_logits * probe(tuple(ctc_logits.shape))).sum()
    model.zero_grad()
    loss.backward()
    compared = set()
    for ours, names in case.converted[kind].report.mapped.items():
        if names[0] not in theirs["gradients"]:
            continue
        shapes = [case.facts[kind]["shapes"][name] for name in names]
        parts = model.get_parameter(ours).grad.split([shape[0] for shape in shapes])
        for name, shape, part in zip(names, shapes, parts, strict=True):
            found = condense(name, part.reshape(shape))
            assert found == pytest.approx(theirs["gradients"][name], rel=1e-4, abs=1e-4), name
            compared.add(name)
    assert compared == set(theirs["gradients"])
    left_out = {name for name in case.facts[kind]["shapes"] if name not in compared}
    assert all(name == "decoder.embed.0.weight" or ".norm." in name for name in left_out)


@pytest.mark.parametrize("kind", KINDS)
def test_the_decoders_equal_the_references_on_a_padded_batch(case: Case, kind: str):
    decoder, theirs = case.model(kind).decoder, case.facts[kind]["decoder"]
    (frames, frame_lens), (embeds, lens) = memory(case.seed), vectors(case.seed)
    frames.requires_grad_()
    embeds.requires_grad_()
    logits = decoder(embeds, lens, frames, frame_lens)
    assert logits.shape == (3, 6, VOCAB)
    assert frames.shape[2] == DIM
    real = (torch.arange(6) < lens[:, None])[..., None]
    close(logits * real, theirs["logits"])
    (logits * probe(tuple(logits.shape)) * real).sum().backward()
    close(frames.grad, theirs["memory gradient"])
    close(embeds.grad, theirs["vectors gradient"])
