"""Thin out what is too much to look at: by a rule that every process applies alike, so that all keep the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil


def keeps(offset: int, every: int) -> bool:
    """Tell whether one in ``every`` (a power of two) keeps this offset. What 8 keeps, 4, 2 and 1 keep too.

    Not ``offset % every`` alone: where two streams are written in turn, one has all the odd offsets and would never be
    seen. The offset is multiplied by a big odd number first, which mixes its bits (Knuth's multiplicative hashing).
    """
    return ((offset * 2_654_435_761) >> 7) % every == 0


def thin(offsets: Sequence[int], limit: int) -> tuple[list[int], int]:
    """Return at most ``limit`` of these offsets, and one in how many that is; the last one stays if no other does."""
    every, kept = 1, list(offsets)
    while len(kept) > limit:
        every *= 2
        kept = [offset for offset in kept if keeps(offset, every)]
    return (kept or list(offsets[-1:]), every)


def percentile(values: Iterable[float], share: float) -> float | None:
    """Return the least value that is not below ``share`` (0 to 1) of them, the nearest rank; None where none are."""
    ranked = sorted(values)
    if not ranked:
        return None
    return ranked[max(0, ceil(share * len(ranked)) - 1)]
