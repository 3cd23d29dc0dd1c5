"""Say how far a process is behind the log."""

from __future__ import annotations

from datetime import timedelta

from declbind.models import Event, Node
from declbind.outbound import history

#: A change that is younger than this when the heartbeat was written need not have been handed out by then.
MOMENT = timedelta(seconds=1)
#: More are not counted.
MOST = 10_000


def count_behind(node: Node, using: str) -> int:
    """Return how many events a process had left undone at its last heartbeat, up to ``MOST``. One query.

    Not how many there are now beyond its offset: that tells how old the heartbeat is.
    """
    column = history.offset_column(using)
    left = Event.objects.using(using).filter(**{f"{column}__gt": node.offset}, created_at__lt=node.seen_at - MOMENT)
    return left.order_by()[:MOST].count()
