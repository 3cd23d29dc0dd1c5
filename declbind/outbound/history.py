"""Keep the head row of the log, and notice when the history is not the one that it was.

Offsets mean something within one epoch. A database that was restored, emptied or failed over to a copy may lack events
that clients have heard, and will give their numbers to others. What shows that, begins a new epoch.
"""

from __future__ import annotations

import secrets
from typing import Any

from django.db import ProgrammingError, connections, models, transaction

from declbind.models import Event, Head

#: The first id that has no event yet but a trigger's mark; past all ids where there is none.
FIRST_MARK = "COALESCE((SELECT MIN(id) FROM declbind_event WHERE kind = 'mark'), 9223372036854775807)"
#: The last id that SQLite gave out, though the event may have been trimmed.
LAST_ID = "(SELECT MAX(seq) FROM sqlite_sequence WHERE name = 'declbind_event')"


def needs_sequencer(using: str) -> bool:
    """Tell whether offsets are given out by the sequencer; on SQLite the id is the offset."""
    return connections[using].vendor != "sqlite"


def offset_column(using: str) -> str:
    """Return the column that orders the log."""
    return "seq" if needs_sequencer(using) else "id"


def ensure_head(using: str) -> Head:
    """Return the head row; where there is none it is made, with a new epoch and the ends that the events have."""
    heads = Head.objects.using(using)
    return heads.filter(pk=1).first() or heads.get_or_create(pk=1, defaults=_new_head(using))[0]


def _new_head(using: str, last_given: int = 0) -> dict[str, Any]:
    """Return what the head row must say of a log as it is found: numbers that were given are not given again."""
    column = offset_column(using)
    ends = Event.objects.using(using).aggregate(first=models.Min(column), last=models.Max(column))
    last = max(ends["last"] or 0, last_given)
    if not needs_sequencer(using):
        with connections[using].cursor() as cursor:
            cursor.execute(f"SELECT {LAST_ID}")
            last = cursor.fetchone()[0] or 0
    return {
        "epoch": secrets.token_hex(8),
        "seq": last if needs_sequencer(using) else 0,
        # Where the last numbers given have no events, none is kept: whoever comes with an older offset is told.
        "min_seq": ends["first"] if ends["first"] is not None and ends["last"] == last else last + 1,
    }


def renew_epoch(using: str, epoch: str) -> None:
    """Begin another history where ``epoch`` is still the one; safe to call twice.

    To be called when the log lost events that it should have: offsets of the old epoch mean nothing then. Numbers go on
    from the highest that was given.
    """
    with transaction.atomic(using=using):
        head = Head.objects.using(using).select_for_update().filter(pk=1, epoch=epoch).first()
        if head is not None:
            _begin_anew(head, using)


def _begin_anew(head: Head, using: str) -> None:
    for name, value in _new_head(using, head.seq).items():
        setattr(head, name, value)
    head.save()


def check_incarnation(using: str) -> None:
    """Begin another history if the tables are not those that they were: loaded from a dump, or a promoted copy.

    To be called when a process has connected anew, for that is when it may have happened. SQLite leaves no such trace:
    there ``manage.py declbind doctor --after-restore`` does it.
    """
    incarnation = _read_incarnation(using)
    head = ensure_head(using)
    if head.incarnation == incarnation or not incarnation:
        return
    with transaction.atomic(using=using):
        head = Head.objects.using(using).select_for_update().get(pk=1)
        if head.incarnation not in ("", incarnation):
            _begin_anew(head, using)
        head.incarnation = incarnation
        head.save()


def _read_incarnation(using: str) -> str:
    """Name the tables as they were made and the server's line of history; "" where the database cannot tell.

    A dump makes new tables, a copy of a database is another one, and a copy of a server that is promoted begins a new
    timeline, perhaps without the last commits.
    """
    if connections[using].vendor != "postgresql":
        return ""
    with connections[using].cursor() as cursor:
        cursor.execute(
            "SELECT oid, 'declbind_event'::regclass::oid, 'declbind_head'::regclass::oid"
            " FROM pg_database WHERE datname = current_database()"
        )
        tables = "-".join(map(str, cursor.fetchone()))
    try:
        # A savepoint, where a transaction is open: some hosts do not let everybody ask this.
        with transaction.atomic(using=using), connections[using].cursor() as cursor:
            cursor.execute("SELECT system_identifier, timeline_id FROM pg_control_system(), pg_control_checkpoint()")
            server = "-".join(map(str, cursor.fetchone()))
    except ProgrammingError:
        server = "?"
    return f"{server}-{tables}"
