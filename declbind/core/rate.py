"""A rate limit on the messages of a connection: a token bucket that is passed the time."""

from __future__ import annotations


class RateLimit:
    """A limit of ``rate`` messages a second with bursts of ``burst``. It also measures continued excess."""

    __slots__ = ("_allowance", "_at", "_burst", "_over_since", "_rate", "refused_in_a_row")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._allowance = float(burst)
        self._at = now
        self._over_since: float | None = None
        #: How many messages were over the rate since the client was last within it.
        self.refused_in_a_row = 0

    def allows(self, now: float) -> bool:
        """Count one message; return whether it is within the rate."""
        self._allowance = min(self._burst, self._allowance + (now - self._at) * self._rate)
        self._at = now
        if self._allowance >= self._burst / 2:
            # Half a burst of silence: the client has slowed down.
            self._over_since = None
            self.refused_in_a_row = 0
        if self._allowance >= 1.0:
            self._allowance -= 1.0
            return True
        if self._over_since is None:
            self._over_since = now
        self.refused_in_a_row += 1
        return False

    def seconds_over(self, now: float) -> float:
        """Return for how many seconds the client has been over its rate."""
        return 0.0 if self._over_since is None else now - self._over_since
