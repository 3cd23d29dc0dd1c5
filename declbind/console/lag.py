"""The lag of a process behind the log at its last heartbeat."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.utils.translation import gettext, ngettext

from declbind.models import Event, Node
from declbind.outbound import history

#: Events that were younger than this at the heartbeat do not count as undelivered.
MOMENT = timedelta(seconds=1)
#: The lag is counted up to this number; beyond it the exact number is irrelevant.
COUNTED_EVENTS = 10_000


@dataclass(frozen=True)
class Lag:
    """The number of undelivered events, and the age of the oldest of them, in seconds."""

    events: int = 0
    seconds: float = 0.0

    @property
    def text(self) -> str:
        """Return the lag in words."""
        if not self.events:
            return gettext("none")
        words = {"count": min(self.events, COUNTED_EVENTS), "seconds": f"{self.seconds:.1f}"}
        if self.events > COUNTED_EVENTS:
            return gettext("over %(count)s events, %(seconds)s s") % words
        text = ngettext("%(count)s event, %(seconds)s s", "%(count)s events, %(seconds)s s", self.events)
        return text % words


def load_lag(node: Node, using: str) -> Lag:
    """Return the lag of a process at its last heartbeat. Takes one query.

    Events after the heartbeat are not counted, because it may be seconds old, and a busy site writes thousands of
    events in that time.
    """
    column = history.offset_column(using)
    left = Event.objects.using(using).filter(**{f"{column}__gt": node.offset}, created_at__lt=node.seen_at - MOMENT)
    times = list(left.order_by(column).values_list("created_at", flat=True)[: COUNTED_EVENTS + 1])
    return Lag(len(times), (node.seen_at - times[0]).total_seconds()) if times else Lag()
