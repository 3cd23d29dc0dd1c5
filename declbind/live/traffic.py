"""Note what an operator may want to see: requests and their outcome, refusals, errors, connections.

Noting is cheap and bounded: rows gather in memory and are written once a second by the hub's own thread. Refusals,
errors and connections that we end are always kept, up to a number per second; the rest only while somebody watches.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.db import transaction
from django.utils import timezone

from declbind import signals
from declbind.conf import settings
from declbind.core.errors import ClientError
from declbind.core.shape import shape, without_values
from declbind.inbound import permissions
from declbind.models import Traffic, Watch
from declbind.outbound.tenants import present_tenant
from declbind.serializers.guard import describe_withheld
from declbind.tenancy import TenantError
from declbind.tokens import InvalidTokenError

logger = logging.getLogger("declbind")

#: Rows that may wait for the next write; more are counted and dropped.
MAX_WAITING = 2_000
#: Characters of a row's JSON; more is left out as a whole, for half of a document is none.
MAX_DETAIL = 8_000
#: What stands before the words of an exception, which may quote a row.
CAPTURE_FAILED = "The binding failed while a write was captured"
#: The outcome of a row that says that values were held back.
WITHHELD = "withheld"
#: A client that closes in order, and a socket whose server took no frame: neither is our doing.
CLOSED, LOST = 1000, 1011


class TrafficLog:
    """Gather traffic rows of one process. ``note`` belongs to the event loop, ``write`` to the hub's thread."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.watched = False
        self.dropped = 0
        self._waiting: list[Traffic] = []
        self._always = 0

    def note(
        self,
        kind: str,
        *,
        always: bool = False,
        detail: Callable[[], Mapping[str, Any]] | None = None,
        **values: Any,
    ) -> None:
        """Note one thing; silently counted as dropped when there are too many. ``detail`` is asked if it is kept."""
        if always or kind in (Traffic.REFUSED, Traffic.ERROR):
            self._always += 1
            if self._always > settings.TRAFFIC_PER_SECOND:
                self.dropped += 1
                return
        elif not self.watched:
            return
        if len(self._waiting) >= MAX_WAITING:
            self.dropped += 1
            return
        row = Traffic(at=timezone.now(), kind=kind, node=self.node, **_cut(values))
        if detail is not None:
            text = _storable(json.dumps(detail(), ensure_ascii=False))
            row.detail = text if len(text) <= MAX_DETAIL else '{"cut": true}'
        self._waiting.append(row)

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


def describe_refusal(error: ClientError, payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is kept of a refused request: what was wrong with which field, and the shape of what was sent."""
    data = payload.get("data")
    sent: Mapping[str, Any] = data if isinstance(data, Mapping) else {}
    fields = {
        name[:60]: [without_values(message, [sent.get(name)])[:300] for message in messages[:3]]
        for name, messages in list(error.fields.items())[:40]
    }
    return {"fields": fields, "sent": shape(dict(payload), 2)}


def describe_origin(scope: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of a handshake that another site's page began."""
    origins = ", ".join(value.decode("latin-1") for name, value in scope.get("headers", ()) if name == b"origin")
    return {
        "action": "connect",
        "outcome": "origin",
        "message": f"Expected a page of this site or one that ALLOWED_ORIGINS lists, got Origin {origins[:200]!r}.",
    }


def describe_stranger(error: TenantError) -> dict[str, Any]:
    """Return the row of a connection that was refused because it is of no tenant."""
    return {"action": "connect", "outcome": "tenant", "message": str(error)[:500]}


def describe_token(error: InvalidTokenError) -> dict[str, Any]:
    """Return the row of a handshake whose token authenticates nobody. It does not hold the token."""
    return {"action": "connect", "outcome": "token", "message": str(error)}


def describe_crowd(identity: permissions.Identity) -> dict[str, Any]:
    """Return the row of a connection that was refused because its user or its address has too many."""
    return {
        "action": "connect",
        "outcome": "connections",
        "tenant": identity.tenant,
        "user_pk": identity.user_pk or "",
        "username": identity.username,
        "message": "Expected fewer open sockets: the user or the address has as many as MAX_CONNECTIONS_PER_USER or "
        "MAX_CONNECTIONS_PER_ADDRESS allows in one process.",
    }


def describe_end(code: int, reason: str) -> dict[str, Any]:
    """Return the row of a connection that is over; one that we ended is always noted, with why."""
    if code in (CLOSED, LOST):
        return {"outcome": "disconnected"}
    return {"outcome": f"closed {code}", "message": reason, "always": True}


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
                    "tenant": present_tenant(using) or "",
                    "object_pk": "" if instance is None else str(instance.pk),
                    "outcome": type(error).__name__,
                    "message": f"{CAPTURE_FAILED}: {error}",
                }
            )
        )


def _note_withheld(*, stream: str, names: Sequence[str], using: str, **kwargs: Any) -> None:
    """Store that values were held back, in the transaction of a write. No value is among the words."""
    with transaction.atomic(using=using):
        Traffic.objects.using(using).create(
            **_cut(
                {
                    "at": timezone.now(),
                    "kind": Traffic.ERROR,
                    "stream": stream,
                    "outcome": WITHHELD,
                    "message": describe_withheld(names),
                }
            )
        )


def install() -> None:
    """Store faults of bindings."""
    signals.values_withheld.connect(_note_withheld, dispatch_uid="declbind.traffic")
    signals.binding_failed.connect(_note_failure, dispatch_uid="declbind.traffic")
