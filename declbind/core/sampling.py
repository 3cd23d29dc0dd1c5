"""Sampling of offsets by a rule that is the same in every process, so that all keep the same events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil


def keeps(offset: int, every: int) -> bool:
    """Return whether a sample of one in ``every`` (a power of two) keeps this offset.

    An offset that 8 keeps is also kept by 4, 2 and 1. The rule is not ``offset % every``: if two streams are written
    in turn, one has all the odd offsets and would never be kept. The offset is multiplied by a big odd number first,
    which mixes its bits (Knuth's multiplicative hashing).
    """
    return ((offset * 2_654_435_761) >> 7) % every == 0


def thin(offsets: Sequence[int], limit: int) -> tuple[list[int], int]:
    """Sample the offsets.

    Args:
        offsets: The offsets, in ascending order.
        limit: The most that may be returned.

    Returns:
        At most ``limit`` offsets, and the number of which each stands for one. If the sample is empty, the last
            offset is kept.
    """
    every, kept = 1, list(offsets)
    while len(kept) > limit:
        every *= 2
        kept = [offset for offset in kept if keeps(offset, every)]
    return (kept or list(offsets[-1:]), every)


def percentile(values: Iterable[float], share: float) -> float | None:
    """Return the smallest value at or above the given ``share`` (0 to 1) of them, or None if there are none.

    This is the nearest-rank percentile.
    """
    ranked = sorted(values)
    if not ranked:
        return None
    return ranked[max(0, ceil(share * len(ranked)) - 1)]
