"""The traffic that operators may want to see: requests and their outcomes, refusals, errors, and connections.

The cost of recording is low and bounded. Rows are collected in memory, and the hub's thread writes them once a second.
Refusals, errors and connections that the server closed are always stored, up to a number per second. Other rows are
stored only while an operator watches.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser
from django.db import transaction
from django.db.models import Model
from django.utils import timezone

from declbind import signals
from declbind.asgi_types import Scope
from declbind.conf import settings
from declbind.core.errors import ClientError
from declbind.core.shape import shape, without_values
from declbind.english import as_english
from declbind.inbound import permissions
from declbind.models import Traffic, Watch
from declbind.outbound.tenants import present_tenant
from declbind.serializers.guard import describe_withheld
from declbind.tenancy import TenantError
from declbind.tokens import InvalidTokenError

logger = logging.getLogger("declbind")

#: The number of rows that may wait for the next write. Further rows are counted and dropped.
MAX_WAITING = 2_000
#: The maximum characters of a row's JSON. Longer JSON is left out completely, because a part of it could not be parsed.
MAX_DETAIL = 8_000
#: The text stored before that of an exception. The exception's text may quote a row.
CAPTURE_FAILED = "The binding failed while a write was captured"
#: The outcome of a row that reports withheld values.
WITHHELD = "withheld"
#: Close codes that the server did not choose: the client closed normally, or the server took no frame.
CLOSED, LOST = 1000, 1011


class TrafficLog:
    """The traffic rows of one process. ``note`` belongs to the event loop, ``write`` to the hub's thread."""

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
        detail: Callable[[], Mapping[str, object]] | None = None,
        **values: Any,
    ) -> None:
        """Record one thing, or count it as dropped if there are too many.

        ``detail`` is called only if the row is kept.
        """
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
        """Remove and return the waiting rows. Called once a second."""
        waiting, self._waiting = self._waiting, []
        self._always = 0
        return waiting

    def write(self, rows: list[Traffic], using: str) -> None:
        """Store rows, and check whether an operator watches."""
        if rows:
            Traffic.objects.using(using).bulk_create(rows)
        self.watched = Watch.objects.using(using).filter(until__gt=timezone.now()).exists()


def _cut(values: dict[str, object]) -> dict[str, object]:
    lengths = {field.name: getattr(field, "max_length", None) or 500 for field in Traffic._meta.concrete_fields}
    return {
        name: _storable(value)[: lengths[name]] if isinstance(value, str) else value for name, value in values.items()
    }


def describe_refusal(error: ClientError, payload: Mapping[str, object]) -> dict[str, object]:
    """Return the row of a refused request: the fields and their errors, and the shape of the request."""
    data = payload.get("data")
    sent: Mapping[str, object] = data if isinstance(data, Mapping) else {}
    fields = {
        name[:60]: [without_values(message, [sent.get(name)])[:300] for message in messages[:3]]
        for name, messages in list(error.fields.items())[:40]
    }
    return {"fields": fields, "sent": shape(dict(payload), 2)}


def describe_origin(scope: Scope) -> dict[str, object]:
    """Return the row of a handshake from a page of another site."""
    user = _loaded_user(scope)
    who = {} if user is None else {"user_pk": str(user.pk), "username": str(user.get_username())}
    origins = ", ".join(value.decode("latin-1") for name, value in scope.get("headers", ()) if name == b"origin")
    return {
        **who,
        "action": "connect",
        "outcome": "origin",
        "message": f"Expected a page of this site or one that ALLOWED_ORIGINS lists, got Origin {origins[:200]!r}.",
    }


def _loaded_user(scope: Mapping[str, Any]) -> AbstractBaseUser | None:
    """Return the user of a scope if a middleware has loaded it already. A lazy one would need a query."""
    user = scope.get("user")
    try:
        found = object.__getattribute__(user, "__dict__").get("_wrapped", user)
    except AttributeError:
        return None
    return found if isinstance(found, AbstractBaseUser) else None


def describe_stranger(error: TenantError) -> dict[str, object]:
    """Return the row of a connection that was refused because it belongs to no tenant."""
    return {"action": "connect", "outcome": "tenant", "message": str(error)[:500]}


def describe_token(error: InvalidTokenError) -> dict[str, object]:
    """Return the row of a handshake whose token authenticates nobody. It does not contain the token."""
    return {"action": "connect", "outcome": "token", "message": str(error)}


def describe_crowd(identity: permissions.Identity) -> dict[str, object]:
    """Return the row of a connection that was refused because its user or address has too many connections."""
    return {
        "action": "connect",
        "outcome": "connections",
        "tenant": identity.tenant,
        "user_pk": identity.user_pk or "",
        "username": identity.username,
        "message": "Expected fewer open sockets: the user or the address has as many as MAX_CONNECTIONS_PER_USER or "
        "MAX_CONNECTIONS_PER_ADDRESS allows in one process.",
    }


def describe_end(code: int, reason: str) -> dict[str, object]:
    """Return the row of a closed connection. If the server closed it, it is always recorded, with the reason."""
    if code in (CLOSED, LOST):
        return {"outcome": "disconnected"}
    return {"outcome": f"closed {code}", "message": reason, "always": True}


def _storable(text: str) -> str:
    # Clients can send any stream name, and one row that the database refuses would make the whole batch fail.
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _note_failure(*, stream: str, error: BaseException, instance: Model | None, using: str, **kwargs: object) -> None:
    """Store the fault of a binding in the transaction of the write. Called in any process that writes."""
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


def _note_withheld(*, stream: str, names: Sequence[str], using: str, **kwargs: object) -> None:
    """Store that values were withheld, in the transaction of a write. The row contains no value."""
    with transaction.atomic(using=using):
        Traffic.objects.using(using).create(
            **_cut(
                {
                    "at": timezone.now(),
                    "kind": Traffic.ERROR,
                    "stream": stream,
                    "outcome": WITHHELD,
                    "message": as_english(describe_withheld(names)),
                }
            )
        )


def install() -> None:
    """Connect to the signals for faults of bindings."""
    signals.values_withheld.connect(_note_withheld, dispatch_uid="declbind.traffic")
    signals.binding_failed.connect(_note_failure, dispatch_uid="declbind.traffic")
