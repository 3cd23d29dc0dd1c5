"""Why an event has no number yet."""

from __future__ import annotations

from django.utils import timezone

from declbind.console.audience import oldest_heartbeat
from declbind.console.times import format_distance
from declbind.models import Event, Node
from declbind.outbound.sessions import age_of, find_head_holders

from .answer import Answer
from .causes import Cause


def explain_waiting(event: Event, using: str) -> Answer:
    """Return why a stored event has no number."""
    waited = format_distance(timezone.now() - event.created_at)
    stored = ("stored", event.created_at)
    holders = find_head_holders(using)
    if holders:
        first = holders[0]
        age = age_of(first)
        held = f" for {format_distance(age)}" if age is not None else ""
        who = f"Session {first.pid} of the database" if first.pid else "A session of the database"
        program = f" ({first.program})" if first.program else ""
        advice = f"End the session: `SELECT pg_terminate_backend({first.pid})`." if first.program or first.state else ""
        return Answer(
            Cause.NUMBERING_BLOCKED,
            f"The change has waited {waited} for its number. {who}{program} has held the lock of the log{held}.",
            (stored, *first.evidence),
            advice=advice,
        )
    alive = Node.objects.using(using).filter(seen_at__gte=oldest_heartbeat()).count()
    if alive:
        text = f"It has waited {waited} for its number, although {alive} ASGI processes run."
        advice = "Read the last error of the processes with `manage.py declbind processes`."
    else:
        text = (
            f"It has waited {waited} for its number. No relay runs, and no ASGI process has served a socket: it begins "
            "to number the log with its first socket."
        )
        advice = "Run an ASGI process and open a page, or run `manage.py declbind relay`."
    return Answer(Cause.NOT_SEQUENCED, text, (stored, ("processes that serve sockets", alive)), advice=advice)
