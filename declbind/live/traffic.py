"""Note what an operator may want to see: requests and their outcome, refusals, errors, connections.

Noting is cheap and bounded: rows gather in memory and are written once a second by the hub's own thread. Refusals and
errors are always kept, up to a number per second; the rest only while somebody watches.
"""

from __future__ import annotations

import logging
from typing import Any

from django.db import transaction
from django.utils import timezone

from declbind import signals
from declbind.conf import settings
from declbind.models import Traffic, Watch

logger = logging.getLogger("declbind")

#: Rows that may wait for the next write; more are counted and dropped.
MAX_WAITING = 2_000


class TrafficLog:
    """Gather traffic rows of one process. ``note`` belongs to the event loop, ``write`` to the hub's thread."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.watched = False
        self.dropped = 0
        self._waiting: list[Traffic] = []
        self._always = 0

    def note(self, kind: str, **values: Any) -> None:
        """Note one thing; silently counted as dropped when there are too many."""
        if kind in (Traffic.REFUSED, Traffic.ERROR):
            self._always += 1
            if self._always > settings.TRAFFIC_PER_SECOND:
                self.dropped += 1
                return
        elif not self.watched:
            return
        if len(self._waiting) >= MAX_WAITING:
            self.dropped += 1
            return
        self._waiting.append(Traffic(at=timezone.now(), kind=kind, node=self.node, **_cut(values)))

    def take(self) -> list[Traffic]:
        """Take the rows that wait; called once a second."""
        waiting, self._waiting = self._waiting, []
        self._always = 0
        return waiting

    def write(self, rows: list[Traffic], using: str) -> None:
        """Store rows, and look whether anybody watches."""
        if rows:
            Traffic.objects.using(using).bulk_create(rows)
        self.watched = Watch.objects.using(using).filter(until__gt=timezone.now()).exists()


def _cut(values: dict[str, Any]) -> dict[str, Any]:
    lengths = {field.name: getattr(field, "max_length", None) or 500 for field in Traffic._meta.concrete_fields}
    return {
        name: _storable(value)[: lengths[name]] if isinstance(value, str) else value for name, value in values.items()
    }


def _storable(text: str) -> str:
    # A client chooses its stream's name; one row that a database refuses would take the others with it.
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _note_failure(*, stream: str, error: BaseException, instance: Any, using: str, **kwargs: Any) -> None:
    """Store the fault of a binding, from any process that writes, in the transaction of the write."""
    with transaction.atomic(using=using):
        Traffic.objects.using(using).create(
            **_cut(
                {
                    "at": timezone.now(),
                    "kind": Traffic.ERROR,
                    "stream": stream,
                    "object_pk": str(instance.pk),
                    "outcome": type(error).__name__,
                    "message": f"The binding failed while a write was captured: {error}",
                }
            )
        )


def install() -> None:
    """Store faults of bindings."""
    signals.binding_failed.connect(_note_failure, dispatch_uid="declbind.traffic")
