"""The deletion of rows that are older than their retention, in batches that do not delay the log."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.utils import timezone

from declbind.conf import settings
from declbind.models import Activity, Connection, IdempotencyKey, Node, Traffic, UnseenWrite, Watch

from . import log
from .expiry import expire_values

#: The number of closed connections that are kept, the size of a batch of deletes, and the batches in one sweep.
CLOSED_KEPT, CLOSED_BATCH, CLOSED_BATCHES = 20_000, 5_000, 20
#: The close code of a lost connection (RFC 6455, section 7.4.1).
LOST = 1006
#: How many seconds counts are kept, by the number of seconds that a row covers, and how many rows one sweep deletes.
ACTIVITY_SECONDS = {1: 600, 60: 86_400}
ACTIVITY_BATCH = 1_000
#: How many days a place in the code that wrote without an event is kept.
UNSEEN_DAYS = 7


def sweep(using: str) -> int:
    """Delete rows that are older than their retention: events, traffic, counts, idempotency keys, dead processes.

    Returns:
        The number of events that were deleted or examined for values to remove.
    """
    trimmed = trim_batch(using)
    now = timezone.now()
    second = timedelta(seconds=1)
    IdempotencyKey.objects.using(using).filter(created_at__lt=now - settings.IDEMPOTENCY_SECONDS * second).delete()
    Watch.objects.using(using).filter(until__lt=now).delete()
    Node.objects.using(using).filter(seen_at__lt=now - 60 * settings.HEARTBEAT_SECONDS * second).delete()
    _sweep_connections(using, now)
    newest = Traffic.objects.using(using).order_by("-id").values_list("id", flat=True)
    beyond = newest[settings.TRAFFIC_ROWS : settings.TRAFFIC_ROWS + 1].first()
    if beyond is not None:
        Traffic.objects.using(using).filter(id__lte=beyond).delete()
    _sweep_counts(using, now)
    UnseenWrite.objects.using(using).filter(last_at__lt=now - UNSEEN_DAYS * timedelta(days=1)).delete()
    return trimmed


def trim_batch(using: str) -> int:
    """Delete a batch of old events and remove a batch of old values. Return how many events were examined."""
    return log.trim(using) + expire_values(using)


def _sweep_counts(using: str, now: datetime) -> None:
    for seconds, kept in ACTIVITY_SECONDS.items():
        rows = Activity.objects.using(using).filter(seconds=seconds, at__lt=now - timedelta(seconds=kept))
        # Read first, because MySQL accepts no LIMIT in the subquery of a DELETE.
        old = list(rows.order_by("at").values_list("pk", flat=True)[:ACTIVITY_BATCH])
        Activity.objects.using(using).filter(pk__in=old).delete()


def _sweep_connections(using: str, now: datetime) -> None:
    """Close the rows of connections whose process died, and delete those that ended long ago."""
    rows = Connection.objects.using(using)
    alive = Node.objects.using(using).values("pk")
    rows.filter(closed_at=None).exclude(node__in=alive).update(
        closed_at=now, close_code=LOST, close_reason="The process ended unexpectedly."
    )
    closed = rows.exclude(closed_at=None).order_by("-closed_at")
    edge = closed.values_list("closed_at", flat=True)[CLOSED_KEPT : CLOSED_KEPT + 1].first()
    oldest = max(filter(None, (edge, now - timedelta(seconds=settings.RETENTION_SECONDS))))
    old = closed.filter(closed_at__lt=oldest).order_by("closed_at").values_list("pk", flat=True)
    # Connections may end faster than one batch per sweep. The number of batches is limited, because the thread also
    # reads the log.
    for _ in range(CLOSED_BATCHES):
        some = list(old[:CLOSED_BATCH])
        rows.filter(pk__in=some).delete()
        if len(some) < CLOSED_BATCH:
            break
