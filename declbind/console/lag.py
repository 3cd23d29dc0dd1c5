"""Say how far a process was behind the log at its last heartbeat."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from declbind.models import Event, Node
from declbind.outbound import history

#: What is younger than this when the heartbeat is written need not have been handed out by then.
MOMENT = timedelta(seconds=1)
#: The lag is counted up to here; beyond it nobody needs the exact number.
COUNTED_EVENTS = 10_000


@dataclass(frozen=True)
class Lag:
    """How many events had not been handed over, and how old the oldest of them was, in seconds."""

    events: int = 0
    seconds: float = 0.0

    @property
    def text(self) -> str:
        """Say it in words."""
        if not self.events:
            return "none"
        count = f"over {COUNTED_EVENTS}" if self.events > COUNTED_EVENTS else str(self.events)
        return f"{count} event{'' if self.events == 1 else 's'}, {self.seconds:.1f} s"


def load_lag(node: Node, using: str) -> Lag:
    """Return how far a process was behind when it was last heard of. One query.

    Events after its heartbeat say nothing about it: that is seconds old, and a busy site writes thousands.
    """
    column = history.offset_column(using)
    left = Event.objects.using(using).filter(**{f"{column}__gt": node.offset}, created_at__lt=node.seen_at - MOMENT)
    times = list(left.order_by(column).values_list("created_at", flat=True)[: COUNTED_EVENTS + 1])
    return Lag(len(times), (node.seen_at - times[0]).total_seconds()) if times else Lag()
