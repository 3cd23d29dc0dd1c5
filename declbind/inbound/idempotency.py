"""Idempotency keys: a repeated request gets the reply to the first one.

There is one row for each actor, stream and key, inserted in the transaction of the write before anything else. A second
request with the same key therefore waits at the unique index until the first one ends. Then it finds the reply. If the
first request failed, there is no row, and the second request carries out the write itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import timedelta

from django.db import IntegrityError, OperationalError, transaction
from django.utils import timezone

from declbind.conf import settings
from declbind.core.errors import ClientError
from declbind.django_types import User
from declbind.models import IdempotencyKey

#: The number of attempts, because the row may be rolled back or trimmed between insert and read.
_TRIES = 5


def name_actor(user: User, connection_id: str, tenant: str = "") -> str:
    """Return the owner of a key: a user of a tenant, on all connections together, or one anonymous connection."""
    actor = f"user:{user.pk}" if user.is_authenticated else f"connection:{connection_id}"
    if tenant:
        actor = json.dumps([tenant, actor])
    return actor if len(actor) <= 100 else hashlib.sha256(actor.encode()).hexdigest()


def claim(
    actor: str, stream: str, key: str, using: str, request: Sequence[object] = ()
) -> tuple[IdempotencyKey, dict[str, object] | None]:
    """Claim a key for a request.

    Waits for a running request with the same key. Call it inside a transaction on ``using``.

    Args:
        actor: The owner of the key (see ``name_actor``).
        stream: The stream of the request.
        key: The key that the client sent.
        using: The alias of the log's database.
        request: The action and the key of the row, as JSON values. A retry must have the same values.

    Returns:
        The row of the key, and the first reply, or ``None`` if the request must be carried out.

    Raises:
        ClientError: ``invalid`` if the key was used for another request.
    """
    rows = IdempotencyKey.objects.using(using)
    for _ in range(_TRIES):
        try:
            with transaction.atomic(using=using):
                return rows.create(actor=actor, stream=stream, key=key, created_at=timezone.now()), None
        except IntegrityError:
            row = rows.select_for_update().filter(actor=actor, stream=stream, key=key).first()
        if row is None:
            continue
        if row.created_at > timezone.now() - timedelta(seconds=settings.IDEMPOTENCY_SECONDS):
            first = json.loads(row.reply)
            if not _is_same_request(first, request):
                raise ClientError("invalid", "Expected a new key: this one was used for another request.")
            return row, first["reply"]
        row.created_at = timezone.now()
        return row, None
    raise OperationalError(f"The idempotency key {key!r} was taken and released {_TRIES} times.")


def _is_same_request(first: Mapping[str, object], request: Sequence[object]) -> bool:
    return bool(first["request"] == [*request])


def keep(row: IdempotencyKey, reply: dict[str, object], request: Sequence[object] = ()) -> None:
    """Store the reply to a request that was carried out."""
    row.reply = json.dumps({"request": [*request], "reply": reply})
    row.save(update_fields=["reply", "created_at"])
