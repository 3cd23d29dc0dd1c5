"""Clocks that a test moves, in place of those by which tokens end."""

from __future__ import annotations

import time

import pytest

from declbind import tokens
from declbind.inbound import terms
from declbind.live import expiry


class Clocks:
    """The wall clock and the monotonic clock of this process, each moved by a test."""

    def __init__(self) -> None:
        self.wall = self.steady = 0.0

    def time(self) -> float:
        return time.time() + self.wall

    def monotonic(self) -> float:
        return time.monotonic() + self.steady

    def pass_by(self, seconds: float) -> None:
        """Let time pass, by both clocks."""
        self.wall += seconds
        self.steady += seconds


def install(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    """Put clocks in place of ``time`` wherever the end of a token is computed."""
    clocks = Clocks()
    for module in (tokens, terms, expiry):
        monkeypatch.setattr(module, "time", clocks)
    return clocks


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    """Return clocks in place of those by which tokens end."""
    return install(monkeypatch)
