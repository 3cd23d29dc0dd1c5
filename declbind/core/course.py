"""Progress of a request through its checks, so that a trial can run the code that serves clients.

That code calls :func:`enter` before each check. A client's request has no follower, and the call does nothing.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterator
from contextvars import ContextVar


class Check(enum.StrEnum):
    """The checks of a request in the code that serves clients, and the further steps that a trial shows."""

    BINDING = "binding"
    REQUEST = "request"
    WHO = "who"
    DIRECTION = "direction"
    PERMISSION = "permission"
    FIELDS = "fields"
    SCOPE = "scope"
    GROUP = "group"
    ROW = "row"
    VALUES = "values"
    WRITE = "write"
    STORE = "store"
    INSIDE = "inside"
    DONE = "done"
    GROUPS = "groups"
    FRAMES = "frames"
    CONNECTIONS = "connections"
    BINDINGS = "bindings"
    SECRETS = "secrets"


class EnoughError(Exception):
    """Ends a followed request early, because the follower has seen enough."""


class Follower:
    """An observer of one request, called in the thread and task that serve it.

    ``stores`` says whether the request may write, in a transaction that the follower rolls back. ``signature``
    replaces the user's name in the events that the request appends, so that they can be distinguished from other
    events.
    """

    stores = True
    signature = ""

    def enter(self, step: Check, found: object) -> None:
        """Record that a check begins, with the object that it checks. An exception raised here ends the request."""


_follower: ContextVar[Follower | None] = ContextVar("declbind_follower", default=None)


def current() -> Follower | None:
    """Return the follower of the request that this thread serves, or ``None`` for a client's request."""
    return _follower.get()


def enter(step: Check, found: object = None) -> None:
    """Report that a check begins; ``found`` is the object that it checks."""
    follower = _follower.get()
    if follower is not None:
        follower.enter(step, found)


@contextlib.contextmanager
def followed(follower: Follower) -> Iterator[None]:
    """Make ``follower`` observe the requests that are served inside the block."""
    token = _follower.set(follower)
    try:
        yield
    finally:
        _follower.reset(token)
