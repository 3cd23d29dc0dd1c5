"""Why an event has no number yet."""

from __future__ import annotations

from django.utils import timezone
from django.utils.translation import gettext, ngettext

from declbind.console.audience import oldest_heartbeat
from declbind.console.times import format_distance
from declbind.models import Event, Node
from declbind.outbound.sessions import Session, age_of, find_head_holders

from .answer import Answer
from .causes import Cause


def explain_waiting(event: Event, using: str) -> Answer:
    """Return why a stored event has no number."""
    waited = format_distance(timezone.now() - event.created_at)
    stored = (gettext("stored"), event.created_at)
    holders = find_head_holders(using)
    if holders:
        first = holders[0]
        advice = ""
        if first.program or first.state:
            advice = gettext("End the session: `SELECT pg_terminate_backend(%(pid)s)`.") % {"pid": first.pid}
        text = _describe_holder(first, waited)
        return Answer(Cause.NUMBERING_BLOCKED, text, (stored, *first.evidence), advice=advice)
    alive = Node.objects.using(using).filter(seen_at__gte=oldest_heartbeat()).count()
    if alive:
        text = ngettext(
            "It has waited %(time)s for its number, although %(count)s ASGI process runs.",
            "It has waited %(time)s for its number, although %(count)s ASGI processes run.",
            alive,
        )
        advice = gettext("Read the last error of the processes with `manage.py declbind processes`.")
    else:
        text = gettext(
            "It has waited %(time)s for its number. No relay runs, and no ASGI process has served a socket: it begins "
            "to number the log with its first socket."
        )
        advice = gettext("Run an ASGI process and open a page, or run `manage.py declbind relay`.")
    evidence = (stored, (gettext("processes that serve sockets"), alive))
    return Answer(Cause.NOT_SEQUENCED, text % {"time": waited, "count": alive}, evidence, advice=advice)


def _describe_holder(session: Session, waited: str) -> str:
    who = gettext("Session %(pid)s of the database") if session.pid else gettext("A session of the database")
    who %= {"pid": session.pid}
    if session.program:
        who = gettext("%(session)s (%(program)s)") % {"session": who, "program": session.program}
    age = age_of(session)
    if age is None:
        text = gettext("The change has waited %(time)s for its number. %(session)s has held the lock of the log.")
        return text % {"time": waited, "session": who}
    text = gettext(
        "The change has waited %(time)s for its number. %(session)s has held the lock of the log for %(age)s."
    )
    return text % {"time": waited, "session": who, "age": format_distance(age)}
