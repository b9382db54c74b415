"""The seed of a trial: the first number that numpy's `SeedSequence` gives for it.

The same bits, computed here: all trials of a point share what comes before their number, so it is
mixed once for the point.  numpy takes 50 µs a trial, as long as all else of a short trial together.
numpy guarantees that the sequence stays as it is; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

_MASK = 0xFFFFFFFF
_POOL = 4
"""Words of 32 bits."""

_MULTIPLY_IN, _MULTIPLY_OUT = 0x931E8875, 0x58F38DED
_HASH_IN, _HASH_OUT = 0x43B0D7E5, 0x8B51F9DD
_LEFT, _RIGHT = 0xCA01F9DD, 0x4973F715


def trial_seed(seed: int, signature: str, numbers: Iterable[int]) -> int:
    """From 0 to 2**31 - 1: of the sweep's seed, the point, the trial's number and its lineage.

    It is `seed_sequence(seed, signature, *numbers).generate_state(1, numpy.uint32)[0] >> 1`.
    """
    mixed = _Pool(*_of_point(seed, signature))
    for number in numbers:
        mixed.add(number)
    return mixed.first_word() >> 1


class _Pool:
    """The entropy mixed so far, and the constant that hashes the next word."""

    def __init__(self, words: Iterable[int], constant: int) -> None:
        self.words, self._constant = list(words), constant

    def add(self, word: int) -> None:
        """Mix one more word into all of the pool."""
        for place in range(_POOL):
            # As `_mix`, written out: it is called for each trial.
            own = word ^ self._constant
            self._constant = self._constant * _MULTIPLY_IN & _MASK
            own = own * self._constant & _MASK
            mixed = _LEFT * self.words[place] - _RIGHT * (own ^ own >> 16) & _MASK
            self.words[place] = mixed ^ mixed >> 16

    def add_own(self) -> None:
        """Mix each word of the pool into the others."""
        for source in range(_POOL):
            for place in range(_POOL):
                if source != place:
                    self._mix(place, self.words[source])

    def hashed(self, word: int) -> int:
        """A word, hashed by a constant that no other is hashed by."""
        word ^= self._constant
        self._constant = self._constant * _MULTIPLY_IN & _MASK
        word = word * self._constant & _MASK
        return word ^ word >> 16

    def _mix(self, place: int, word: int) -> None:
        mixed = _LEFT * self.words[place] - _RIGHT * self.hashed(word) & _MASK
        self.words[place] = mixed ^ mixed >> 16

    def first_word(self) -> int:
        """The first word of the state that is drawn from the pool."""
        word = (self.words[0] ^ _HASH_OUT) * (_HASH_OUT * _MULTIPLY_OUT & _MASK) & _MASK
        return word ^ word >> 16

    @property
    def state(self) -> tuple[tuple[int, ...], int]:
        """What another pool goes on from."""
        return tuple(self.words), self._constant


@lru_cache(maxsize=16)
def _of_point(seed: int, signature: str) -> tuple[tuple[int, ...], int]:
    """The pool after the sweep's seed and the point."""
    own = [seed >> shift & _MASK for shift in range(0, max(1, seed.bit_length()), 32)]
    words = own + [0] * (_POOL - len(own))
    words += [int(signature[place : place + 8], 16) for place in range(0, len(signature), 8)]
    pool = _Pool((), _HASH_IN)
    pool.words = [pool.hashed(word) for word in words[:_POOL]]
    pool.add_own()
    for word in words[_POOL:]:
        pool.add(word)
    return pool.state
