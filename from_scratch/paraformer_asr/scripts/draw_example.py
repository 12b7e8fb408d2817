"""Draw the picture of README.md: the first test utterances as a trained model hears them.

    python -m paraformer_asr train --config configs/tiny.yaml
    python scripts/draw_example.py runs/RUN docs/images/utterance.png

Nothing is chosen: utterances 0, 1, ... of the test split, with what was really said above each.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from paraformer_asr.checkpoints import load_model
from paraformer_asr.data.build import build_datasets
from paraformer_asr.errors import AsrError
from paraformer_asr.infer import look, make_folder
from paraformer_asr.picture import View, draw


def views_of(run: Path, count: int) -> list[View]:
    """What the model of a run makes of the first test utterances."""
    loaded = load_model(run, "cpu")
    dataset = build_datasets(loaded.config)["test"]
    utterances = [dataset.load(index) for index in range(min(count, len(dataset)))]
    return [
        look(loaded.model, each.frames, title=each.name, reference=each.text) for each in utterances
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("picture", type=Path, help="PNG to write")
    parser.add_argument("--count", type=int, default=2, help="utterances (2)")
    options = parser.parse_args()
    try:
        make_folder(options.picture.parent)
        draw(views_of(options.run, options.count), options.picture)
    except AsrError as error:
        raise SystemExit(f"error: {error}") from None
    print(options.picture)
