"""Have what one call writes captured once, where Django carries it out by another method that is captured too."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

#: The name of a mark on query sets whose next write is captured already, by who had them made.
CAPTURED = "_declbind_captured"


class _Busy(threading.local):
    """Whether this thread is inside of a call that is captured as a whole."""

    is_captured = False


_busy = _Busy()


def is_open(rows: Any) -> bool:
    """Tell whether a query set's write is to be captured, and not a part of what is captured already."""
    return not (getattr(rows, CAPTURED, False) or _busy.is_captured)


@contextlib.contextmanager
def captured() -> Iterator[None]:
    """Capture no query set's write in the block. No code of the project may run in it."""
    _busy.is_captured = True
    try:
        yield
    finally:
        _busy.is_captured = False
