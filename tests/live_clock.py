"""A clock of the live part that tests move."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from declbind.live import conversation, housekeeping, hub, socket


class Clock:
    """A replacement of ``time.monotonic`` in the live part, which stands still until it is moved."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # A whole number, so that the sum of the moves does not depend on the rounding of the machine's clock.
        self.now = float(round(time.monotonic()))
        for module in (housekeeping, conversation, hub, socket):
            monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))

    def move(self, seconds: float) -> None:
        self.now += seconds
