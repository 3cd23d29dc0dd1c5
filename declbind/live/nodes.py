"""The heartbeat row of this process, which shows operators that it serves sockets, and under which configuration."""

from __future__ import annotations

import os
import secrets
import socket
from collections import Counter
from datetime import datetime

from django.utils import timezone

from declbind.code_digest import digest_code
from declbind.core.hub import Hub
from declbind.models import Node
from declbind.registry import BindingRegistry

from .connection_log import close_all
from .socket import PROCESS_ENDED, RESTART


class Heartbeat:
    """The heartbeat row (``Node``) of this process. Every method runs in the hub's thread."""

    def __init__(self) -> None:
        self.id = secrets.token_hex(8)
        self.started_at: datetime = timezone.now()
        #: The current faults, by what failed.
        self.faults: dict[str, str] = {}

    @property
    def last_error(self) -> str:
        """The most recent of the current faults; "" if there is none."""
        return next(reversed(self.faults.values()), "")

    def note_fault(self, what: str, error: Exception) -> None:
        """Record that ``what`` failed."""
        self.faults.pop(what, None)
        self.faults[what] = f"{type(error).__name__}: {error}"

    def forget_fault(self, what: str) -> None:
        """Record that ``what`` works again."""
        self.faults.pop(what, None)

    def beat(self, state: dict[str, object], using: str) -> None:
        """Store the current state."""
        Node.objects.using(using).update_or_create(
            id=self.id,
            defaults={
                **state,
                "host": socket.gethostname()[:200],
                "pid": os.getpid(),
                "started_at": self.started_at,
                "seen_at": timezone.now(),
                "last_error": self.last_error[:2000],
            },
        )

    def end(self, using: str) -> None:
        """Remove the row of a process that ends normally."""
        close_all(self.id, using, RESTART, PROCESS_ENDED)
        Node.objects.using(using).filter(id=self.id).delete()


def describe(hub: Hub, registry: BindingRegistry, dropped: int = 0) -> dict[str, object]:
    """Return the state of a hub for the heartbeat. Called in the event loop, which owns the hub."""
    streams = Counter(subscription.stream for subscription in hub.subscriptions())
    return {
        "generation": registry.generation,
        "version": registry.version,
        "digest": registry.digest,
        "code": digest_code(registry),
        "connections": len(hub.connections),
        "subscriptions": sum(streams.values()),
        "streams": dict(streams),
        "offset": hub.cursor,
        "dropped": dropped,
    }
