"""Tell how far a request has come, to who follows it: a trial runs the very code that serves clients.

That code calls :func:`enter` before each check. Nobody follows a client's request, and the call does nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any


class EnoughError(Exception):
    """End a request that is followed: what was to be seen has been seen."""


class Follower:
    """Follow one request through its checks, in the thread and task that serve it.

    ``stores`` says whether it may go as far as to write, in a transaction that its follower rolls back. ``signature``
    stands in the events that it appends, in place of the user's name, so that they can be told from those of others.
    """

    stores = True
    signature = ""

    def enter(self, step: str, found: Any) -> None:
        """Be told that a check begins, with what it is about; whatever this raises ends the request."""


_follower: ContextVar[Follower | None] = ContextVar("declbind_follower", default=None)


def current() -> Follower | None:
    """Return who follows the request that this thread serves, ``None`` for a client's."""
    return _follower.get()


def enter(step: str, found: Any = None) -> None:
    """Say that a check begins; ``found`` is what it is about."""
    follower = _follower.get()
    if follower is not None:
        follower.enter(step, found)


@contextlib.contextmanager
def followed(follower: Follower) -> Iterator[None]:
    """Let somebody follow what is served inside the block."""
    token = _follower.set(follower)
    try:
        yield
    finally:
        _follower.reset(token)
