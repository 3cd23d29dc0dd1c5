"""The period for which a token is valid, measured by two clocks."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Term:
    """The period until a token expires. It is over as soon as either of two clocks says so.

    The wall clock can be set back while the process runs, and the monotonic clock can stop while the machine sleeps.
    Neither of them alone can extend the term.

    Attributes:
        ends_at: The end in seconds since the epoch.
        deadline: The same moment on ``time.monotonic()``.
    """

    ends_at: float
    deadline: float

    @classmethod
    def until(cls, ends_at: float) -> Self:
        """Return the term that ends at a time of the wall clock, in seconds since the epoch."""
        return cls(ends_at, time.monotonic() + (ends_at - time.time()))

    def is_over(self) -> bool:
        """Return whether the term has ended."""
        return time.monotonic() >= self.deadline or time.time() >= self.ends_at

    def seconds_left(self) -> float:
        """Return how many seconds are left, at least 0."""
        return max(0.0, min(self.deadline - time.monotonic(), self.ends_at - time.time()))
