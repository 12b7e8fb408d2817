"""Learn byte-pair merges from captions (Sennrich et al. 2016, algorithm 1).

Start with the bytes of every word; join the pair of neighbours that is most frequent, everywhere;
repeat. Pair counts are kept up to date in the words a merge touches instead of counted anew, so a
merge costs as much as the words it changes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from itertools import pairwise

from maquette.tasks.image_text.merges import BYTE_SYMBOLS, NUM_BYTE_TOKENS, WORD_END, Pair
from maquette.tasks.image_text.text_cleaning import END, START, clean, split

_FEWEST = 2
"""A pair that occurs once is a fact about one word, not about the captions."""


def learn_merges(captions: Iterable[str], *, num_merges: int) -> list[Pair]:
    """Return at most `num_merges` merges, most frequent pair first.

    The result depends on the captions but not on their order: of equally frequent pairs, the one
    whose symbols are older wins (bytes in the order of the vocabulary, then earlier merges).
    Fewer come back when no pair is left that occurs twice.
    """
    words = count_words(captions)
    tokens = [*BYTE_SYMBOLS.values(), *(symbol + WORD_END for symbol in BYTE_SYMBOLS.values())]
    learner = _Learner(words, {token: position for position, token in enumerate(tokens)})
    merges: list[Pair] = []
    while len(merges) < num_merges and (best := learner.most_frequent()) is not None:
        left, right = tokens[best[0]], tokens[best[1]]
        merges.append((left, right))
        learner.join(best, NUM_BYTE_TOKENS + len(merges) - 1)
        tokens.append(left + right)
    return merges


def count_words(captions: Iterable[str]) -> Counter[str]:
    """Count the pieces of all captions, start and end tokens left out."""
    counts: Counter[str] = Counter()
    for caption in captions:
        counts.update(split(clean(caption)))
    for special in (START, END):
        counts.pop(special, None)
    return counts


class _Learner:
    """The words as token ids, with the count and the whereabouts of every pair."""

    def __init__(self, words: Counter[str], ids: dict[str, int]) -> None:
        self._words: list[list[int]] = []
        self._counts: list[int] = []
        self._pairs: Counter[tuple[int, int]] = Counter()
        self._where: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
        for word, count in words.items():
            symbols = [BYTE_SYMBOLS[byte] for byte in word.encode()]
            symbols[-1] += WORD_END
            self._words.append([ids[symbol] for symbol in symbols])
            self._counts.append(count)
            self._add(len(self._words) - 1, 1)
        self._heap = [(-count, pair) for pair, count in self._pairs.items()]
        heapify(self._heap)

    def most_frequent(self) -> tuple[int, int] | None:
        """Return the pair to join next; None when no pair occurs twice."""
        while self._heap:
            count, pair = heappop(self._heap)
            now = self._pairs[pair]
            # Counts fall without the heap being told; an entry that is too high goes back.
            if -count > now >= _FEWEST:
                heappush(self._heap, (-now, pair))
            elif -count == now >= _FEWEST:
                return pair
        return None

    def join(self, pair: tuple[int, int], new: int) -> None:
        """Replace the pair by the token `new` in all words."""
        changed: set[tuple[int, int]] = set()
        for index in list(self._where[pair]):
            self._add(index, -1)
            self._words[index] = joined(self._words[index], pair, new)
            changed |= self._add(index, 1)
        for other in changed:
            if new in other:  # all others only became rarer
                heappush(self._heap, (-self._pairs[other], other))

    def _add(self, index: int, sign: int) -> set[tuple[int, int]]:
        """Count the pairs of a word in (1) or out (-1); return them."""
        word = self._words[index]
        pairs = list(pairwise(word))
        for pair in pairs:
            self._pairs[pair] += sign * self._counts[index]
        for pair in set(pairs):
            if sign > 0:
                self._where[pair].add(index)
            else:
                self._where[pair].discard(index)
        return set(pairs)


def joined(word: list[int], pair: tuple[int, int], new: int) -> list[int]:
    """Return `word` with every occurrence of `pair`, from the left, replaced by `new`."""
    result: list[int] = []
    position = 0
    while position < len(word):
        if tuple(word[position : position + 2]) == pair:
            result.append(new)
            position += 2
        else:
            result.append(word[position])
            position += 1
    return result
