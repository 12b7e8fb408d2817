"""Write what jiwer counts in random pairs of texts, for the parity tests of paraformer_asr.

    .venv-peers/bin/python tests/parity/make_asr_metrics_golden.py

Runs in .venv-peers. The file holds the texts too. `--seed` and `--output` make other numbers
elsewhere (the live test).
"""

from __future__ import annotations

import argparse
import json
import random
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jiwer

NUM_PAIRS = 400
ALPHABETS = ("ab", "abc", "abcdefghij", "今天气很好不是吗", "a b 今天")
WORDS = ("one", "two", "three", "oh", "nine", "今天")


def changed(text: list[str], alphabet: str | tuple[str, ...], rng: random.Random) -> list[str]:
    """Each element kept, or now and then exchanged, left out or doubled with another."""
    out: list[str] = []
    for element in text:
        what = rng.random()
        if what < 0.7:
            out.append(element)
        elif what < 0.8:
            out.append(rng.choice(alphabet))
        elif what < 0.9:
            out += [element, rng.choice(alphabet)]
    return out


def pairs(seed: int) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(reference, hypothesis) by characters and by words: half unrelated, half alike; no white
    space at the ends, which jiwer takes off."""
    rng = random.Random(seed)
    characters, words = [], []
    for number in range(NUM_PAIRS):
        alphabet = ALPHABETS[number % len(ALPHABETS)]
        left, right = pair(alphabet, 20, alike=number % 2 == 1, rng=rng)
        characters.append(("".join(left).strip(), "".join(right).strip()))
        left, right = pair(WORDS, 12, alike=number % 2 == 1, rng=rng)
        words.append((" ".join(left), " ".join(right)))
    return characters, words


def pair(
    alphabet: str | tuple[str, ...], longest: int, *, alike: bool, rng: random.Random
) -> tuple[list[str], list[str]]:
    left, unrelated = (rng.choices(alphabet, k=rng.randint(0, longest)) for _ in range(2))
    return left, changed(left, alphabet, rng) if alike else unrelated


def counts(found: Any) -> list[int]:
    return [found.hits, found.substitutions, found.deletions, found.insertions]


def measure(texts: list[tuple[str, str]], process: Any, rate: Any) -> dict[str, Any]:
    said = [pair for pair in texts if pair[0]]
    return {
        "pairs": [[*pair, *counts(process(*pair))] for pair in texts],
        "rate of each": [rate(*pair) for pair in said],
        "rate of all": rate(*(list(side) for side in zip(*texts, strict=True))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "golden")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    characters, words = pairs(args.seed)
    facts: dict[str, Any] = {
        "made with": {"jiwer": version("jiwer"), "seed": args.seed},
        "characters": measure(characters, jiwer.process_characters, jiwer.cer),
        "words": measure(words, jiwer.process_words, jiwer.wer),
        "nothing said": {"heard": jiwer.cer("", "ab"), "not heard": jiwer.cer("", "")},
        "white space at the ends": jiwer.cer(" a ", "a"),
    }
    text = json.dumps(facts, ensure_ascii=False)
    (args.output / "asr_metrics.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
