"""Crash points: this process kills itself at a named place of the product's code, like a crash or the OOM killer.

`FAULTS_CRASH="after_commit:17"` means: when that place is passed for the 17th time. With `:SIGSTOP` appended, the
process is frozen there instead, until another process resumes it. The places are wrapped from here; the product does
not know about them.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from typing import Any

VARIABLE = "FAULTS_CRASH"


def reach(place: str) -> None:
    """Pass a place by name. At the end of the countdown this does not return, or not soon."""
    if place == _place and next(_passed) == _count:
        os.kill(os.getpid(), _signal)


def _parse(text: str) -> tuple[str, int, signal.Signals]:
    place, count, name = [*text.split(":"), "", ""][:3]
    return place, int(count or 1), signal.Signals[name or "SIGKILL"]


_place, _count, _signal = _parse(os.environ.get(VARIABLE, ""))
_passed = itertools.count(1)


def _after(original: Callable[..., Any], place: str, is_counted: Callable[[Any], bool] = lambda result: True) -> Any:
    def wrapper(*args: object, **kwargs: object) -> object:
        result = original(*args, **kwargs)
        if is_counted(result):
            reach(place)
        return result

    return wrapper


def _before(original: Callable[..., Any], place: str) -> Any:
    def wrapper(*args: object, **kwargs: object) -> object:
        reach(place)
        return original(*args, **kwargs)

    return wrapper


def install() -> None:
    """Wrap the place that the environment names; without one, do nothing."""
    # Imported here: processes that only name places, as the arena does, have no Django set up.
    from declbind.inbound import idempotency, writes
    from declbind.live.socket import Socket
    from declbind.outbound import log, sequencer

    code: Any = log
    numbers: Any = sequencer
    keys: Any = idempotency
    inbound: Any = writes
    sending: Any = Socket
    match _place:
        case "" | "before_sending":  # the second place is reached in a sabotaged writer only
            pass
        case "before_commit":  # the events are inserted, their transaction is open
            code.ring_after_commit = _after(code.ring_after_commit, _place)
        case "after_commit":  # committed, and nobody was notified: neither the hubs nor the writer
            code.ring = _before(code.ring, _place)
        case "answer_kept":  # a client's write and the stored reply to its key are in an open transaction
            keys.keep = _after(keys.keep, _place)
        case "before_reply":  # a client's write is committed, and its reply was not sent
            inbound.handle = _after(inbound.handle, _place)
        case "while_sequencing":  # numbers are assigned, and the head's lock is held
            numbers.number_events = _after(numbers.number_events, _place)
        case "after_sequencing":  # numbers are committed, and nobody was notified
            numbers.sequence = _after(numbers.sequence, _place, bool)
        case "mid_fanout":  # an event was sent to some connections only
            sending.flush = _after(sending.flush, _place)
        case _:
            raise ValueError(f"{VARIABLE}: expected one of the places in crashes.py, got {_place!r}")
