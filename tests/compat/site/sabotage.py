"""Deliberate faults of the site, to show that the course detects them."""

from __future__ import annotations

from collections.abc import Callable


def let_updates_pass_unseen() -> None:
    """Remove the hook of `QuerySet.update`."""
    from django.db import models

    models.QuerySet.update = models.QuerySet.update.__wrapped__  # type: ignore[attr-defined, method-assign]


def keep_rights() -> None:
    """Never check an open socket's permissions again."""
    from declbind.live.hub import LiveHub

    async def revalidate(self: LiveHub, sockets: object) -> None:
        return None

    LiveHub.revalidate = revalidate  # type: ignore[method-assign]


def stall_at_the_first_wait() -> None:
    """Close a socket whose server cannot accept a frame at once, instead of waiting."""
    from declbind.live.socket import Socket

    async def lose(self: Socket) -> None:
        raise RuntimeError("cannot go on")

    Socket.push_paced = lose  # type: ignore[assignment, method-assign]


def list_no_connections() -> None:
    """Never write the table of connections."""
    from declbind.live.connection_log import ConnectionLog

    ConnectionLog.write = staticmethod(lambda rows, using: None)  # type: ignore[method-assign]


def end_without_a_drain() -> None:
    """Leave the shutdown signal to the server."""
    from declbind.live import shutdown

    shutdown.watch = lambda loop, running_hubs: None


SABOTAGES: dict[str, Callable[[], None]] = {
    "updates unseen": let_updates_pass_unseen,
    "rights kept": keep_rights,
    "no going on": stall_at_the_first_wait,
    "no drain": end_without_a_drain,
    "connections unlisted": list_no_connections,
}


def install(name: str) -> None:
    """Install a fault; none for an empty name."""
    if name:
        SABOTAGES[name]()
