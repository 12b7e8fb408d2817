"""Seconds of training: paraformer_asr against FunASR, models of equal size.

    .venv-peers/bin/python benchmarks/speech_step.py
    .venv-peers/bin/python benchmarks/speech_step.py --cases ragged --utterances 96

A step is forward with glancing (two decoder passes), label-smoothed cross-entropy and quantity
loss, backward, clipping and the optimiser: FunASR's `Paraformer.forward` with torch's Adam as its
trainer has it, and our `Trainer.step` with its fused AdamW and its watch for NaN. Two cases:

    full     8 utterances of 5 s, 100 frames a second: the same batch for both
    ragged   utterances of 1 to 12 s at the low frame rate, one pass over all of them.
             "as they come": batches of 16 in random order, the same for both;
             "bucketed": our batches by length within a budget of frames. FunASR has samplers that
             sort by length too, so it is measured with our batches as well.

`rounds.py` says how it is measured and what the columns mean.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Sequence

import rounds
from speech_peer import SOURCE, use_levers

CASES = {"full": (1, 1), "ragged": (7, 6)}
BATCH = 16
SHORTEST, LONGEST = 1.0, 12.0
CLIP = 5.0


def jobs_of(options: argparse.Namespace) -> rounds.Jobs:
    """Name -> training on all utterances of the case."""
    import torch
    from paraformer_asr.config import config_from_dict, config_to_dict
    from paraformer_asr.data.batches import Batch, collate
    from paraformer_asr.data.buckets import length_buckets
    from paraformer_asr.trainer import Trainer

    from speech_peer import DROPOUT, MELS, TOKENS_PER_SECOND, VOCABULARY, make_pair, parameters

    case = options.cases[0]
    stack, stride = CASES[case]
    pair = make_pair(stack, stride)
    funasr, ours = pair.funasr.train(), pair.ours
    if parameters(funasr) != parameters(ours):
        raise SystemExit(f"{parameters(funasr):,} and {parameters(ours):,} parameters")
    values = config_to_dict(ours.config)
    if ours.config.model.dropout != DROPOUT:
        raise SystemExit("both models must have the same dropout")
    values["loss"]["label_smoothing"] = 0.1
    values["optim"]["grad_clip"] = CLIP
    values["train"] |= {"device": "cpu", "steps": 1000}
    trainer = Trainer(ours, config_from_dict(values), torch.device("cpu"))
    adam = torch.optim.Adam(funasr.parameters(), lr=5e-4)

    rng = random.Random(0)
    generator = torch.Generator().manual_seed(0)
    seconds = [5.0] * 8 if case == "full" else _durations(rng, options.utterances)
    items = []
    for i, duration in enumerate(seconds):
        frames = -(-int(100 * duration) // stride)
        ids = torch.randint(3, VOCABULARY - 1, (int(TOKENS_PER_SECOND * duration),))
        feats = torch.randn(frames, MELS * stack, generator=generator)
        items.append((f"noise {i}", "", feats, ids.tolist()))

    def batches(indices: Sequence[Sequence[int]]) -> list[Batch]:
        return [collate([items[i] for i in batch]) for batch in indices]

    def train_funasr(batches: Sequence[Batch]) -> Callable[[], None]:
        def job() -> None:
            for batch in batches:
                loss, _, _ = funasr(batch.feats, batch.feat_lens, batch.tokens, batch.token_lens)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(funasr.parameters(), CLIP)
                adam.step()
                adam.zero_grad()

        return job

    def train_ours(batches: Sequence[Batch]) -> Callable[[], None]:
        def job() -> None:
            for batch in batches:
                trainer.step([batch], step=0, progress=0.0)

        return job

    if case == "full":
        whole = batches([range(len(items))])
        return {"funasr": train_funasr(whole), "paraformer_asr": train_ours(whole)}
    order = list(range(len(items)))
    rng.shuffle(order)
    random_batches = batches([order[i : i + BATCH] for i in range(0, len(order), BATCH)])
    lengths = [len(feats) for _, _, feats, _ in items]
    budget = BATCH * sum(lengths) // len(lengths)
    sizes = {"batch_frames": budget, "max_batch": 64}
    plan = length_buckets(lengths, **sizes, seed=0, epoch=0, shuffle=True, bucketing=True)
    bucketed = batches(plan)
    return {
        "funasr, as they come": train_funasr(random_batches),
        "funasr, bucketed by ours": train_funasr(bucketed),
        "paraformer_asr, as they come": train_ours(random_batches),
        "paraformer_asr, bucketed": train_ours(bucketed),
    }


def _durations(rng: random.Random, number: int) -> list[float]:
    return [rng.uniform(SHORTEST, LONGEST) for _ in range(number)]


def main() -> int:
    parser = rounds.parser(__doc__)
    parser.set_defaults(rounds=7)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--utterances", type=int, default=48, help="of the ragged case")
    options = parser.parse_args()
    if options.worker:
        rounds.serve(options, jobs_of, source=SOURCE, use_levers=use_levers)
        return 0
    results = {}
    for case in options.cases:
        arguments = [f"--utterances={options.utterances}", "--cases", case]
        result = rounds.measure(__file__, options, arguments)
        number = 8 if case == "full" else options.utterances
        print(f"\ntraining, case {case}, {number} utterances")
        rounds.report(result, PAIRS[case], lambda s, n=number: f"{n / s:.2f} utterances/s")
        results[case] = result
    rounds.save(options.out, results)
    return 0


PAIRS = {
    "full": [("paraformer_asr", "funasr")],
    "ragged": [
        ("paraformer_asr, bucketed", "funasr, as they come"),
        ("paraformer_asr, as they come", "funasr, as they come"),
        ("paraformer_asr, bucketed", "funasr, bucketed by ours"),
    ],
}
"""Our job and the peer's it is compared with."""


if __name__ == "__main__":
    sys.exit(main())
