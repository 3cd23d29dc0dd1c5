"""Events before they are stored, and the statements that insert them.

``log`` and ``sequencer`` decide when events are inserted, and in which transaction.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import json
import logging
import os
import re
import socket
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import NamedTuple

from django.utils import timezone

from declbind.batches import batch_size
from declbind.core.frames import RESYNC
from declbind.django_types import Connection, SqlValue
from declbind.models import Event

#: The columns that differ between events. The others are mostly the same for all events of a binding and a process.
VARYING = ("object_pk", "changes", "data", "created_at")
CONSTANT = ("kind", "stream", "model", "version", "actor", "origin", "tenant", "process", "code")
COLUMNS = (*VARYING, *CONSTANT)
INSERT = f"INSERT INTO declbind_event ({','.join(COLUMNS)}) "
#: The columns of a trigger's mark. The data is last.
MARK_COLUMNS = ",".join((*(column for column in COLUMNS if column != "data"), "data"))
_MARK_VALUES = {"kind": "'mark'", "changes": "'[]'", "version": "0"}
#: The types of columns that are not text, for PostgreSQL.
TYPES = {"version": "bigint", "created_at": "timestamptz"}
#: From this number of events, PostgreSQL gets one array or JSON value instead of single parameters, which take four
#: times as long.
MANY = 20

#: The maximum number of characters in one statement on MySQL and MariaDB, and the number of bytes kept free below
#: ``max_allowed_packet`` (16 MiB by default).
PACKET_CHARACTERS, PACKET_RESERVE = 1_000_000, 100_000

logger = logging.getLogger("declbind")

_encode_changes = functools.lru_cache(maxsize=1024)(json.JSONEncoder(separators=(",", ":")).encode)
_INERT = re.compile(r"[A-Za-z0-9_./: -]*", re.ASCII)
_actor: ContextVar[str] = ContextVar("declbind_actor", default="")


#: The tenant of a draft whose event is for all tenants, regardless of the connection's tenant.
ALL_TENANTS = "*"


class Draft(NamedTuple):
    """One event before it is appended; the attributes are the columns of ``Event``.

    This is a tuple because each write makes one, and a frozen dataclass takes four times as long to make.
    """

    stream: str
    model: str = ""
    object_pk: str = ""
    changes: tuple[tuple[str, str], ...] = ()
    data: str = "{}"
    version: int = 0
    kind: str = Event.ROW
    #: The tenant of the event; "" for all tenants, and before the event is appended.
    tenant: str = ""
    #: The digest of the code that made the event; "" for events without a row.
    code: str = ""

    @classmethod
    def of(cls, event: Event) -> Draft:
        """Return a stored event as a draft."""
        changes = tuple((group, action) for group, action in json.loads(event.changes))
        return cls(
            event.stream, event.model, event.object_pk, changes, event.data, event.version, event.kind, event.tenant,
            event.code,
        )  # fmt: skip


class Placed(NamedTuple):
    """An event with its number, and the id of the log row that it replaces."""

    number: int
    draft: Draft
    row: Event


@contextlib.contextmanager
def acting(actor: str) -> Iterator[None]:
    """Record ``actor`` as the author of the events appended inside the block. The name is only shown to people."""
    token = _actor.set(actor[:150])
    try:
        yield
    finally:
        _actor.reset(token)


def writer() -> tuple[str, str]:
    """Return the author of writes, as shown to people, and the name of the program."""
    return _actor.get(), _origin()


def insert(drafts: Sequence[Draft], connection: Connection) -> None:
    """Insert events without waking any reader."""
    # A save has one event, so the parameter limit of the database is looked up only for several events.
    batch = batch_size(connection.alias) // len(COLUMNS) if len(drafts) > 1 else 1
    portions: Iterable[Sequence[Draft]] = (drafts[start : start + batch] for start in range(0, len(drafts), batch))
    if connection.vendor == "mysql":
        portions = _in_packets(drafts, batch, connection)
    with connection.cursor() as cursor:
        for some in portions:
            is_one = connection.vendor == "postgresql" and len(some) >= MANY
            cursor.execute(*(_insert_as_one if is_one else _insert_values)(some, connection))


def _in_packets(drafts: Sequence[Draft], batch: int, connection: Connection) -> Iterator[list[Draft]]:
    """Yield lists of at most ``batch`` events whose statements MySQL and MariaDB accept.

    A statement longer than ``max_allowed_packet`` would end the writer's connection. An event that is too long by
    itself is replaced by a resync of its groups.
    """
    some: list[Draft] = []
    size = 0
    for draft in drafts:
        if len(draft.data) > PACKET_CHARACTERS:
            draft = _fitting(draft, connection)
        if some and (len(some) == batch or size + len(draft.data) > PACKET_CHARACTERS):
            yield some
            some, size = [], 0
        some.append(draft)
        size += len(draft.data)
    if some:
        yield some


def _fitting(draft: Draft, connection: Connection) -> Draft:
    """Return an event unchanged, or as a resync of its groups if it is too long for the server."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@max_allowed_packet")
        (limit,) = cursor.fetchone()
    # The driver escapes quotes and backslashes, and JSON has many. The rest of the statement is short.
    escaped = len(draft.data.encode()) + draft.data.count('"') + draft.data.count("\\")
    if escaped + PACKET_RESERVE < limit:
        return draft
    logger.warning(
        "An event of stream %r has %d bytes, more than max_allowed_packet; its clients get a resync instead.",
        draft.stream,
        escaped,
    )
    changes = tuple(dict.fromkeys((group, RESYNC) for group, _ in draft.changes))
    return draft._replace(kind=Event.BULK, object_pk="null", changes=changes, data="{}")


def _insert_values(drafts: Sequence[Draft], connection: Connection) -> tuple[str, list[SqlValue]]:
    """Return the statement that inserts events, with parameters for values that differ."""
    now, rows = _adapted_now(connection), []
    values: list[SqlValue] = []
    for draft in drafts:
        row, some = row_of(draft, connection, now)
        rows.append(f"({','.join(row)})")
        values += some
    return f"{INSERT}VALUES {','.join(rows)}", values


def _insert_as_one(drafts: Sequence[Draft], connection: Connection) -> tuple[str, list[SqlValue]]:
    """Return the statement that inserts events in order, with one value for each column, or all as JSON text."""
    columns: dict[str, list[SqlValue]] = {
        "object_pk": [draft.object_pk for draft in drafts],
        "changes": [_encode_changes(draft.changes) for draft in drafts],
        "data": [draft.data for draft in drafts],
        "created_at": [_adapted_now(connection)],
        **{name: [getattr(draft, name) for draft in drafts] for name in ("kind", "stream", "model", "version")},
        "actor": [_actor.get()],
        "origin": [_origin()],
        "tenant": [draft.tenant for draft in drafts],
        "process": [_process()],
        "code": [draft.code for draft in drafts],
    }
    # The keys determine the rows, even if they are equal.
    varying = [name for name, values in columns.items() if name == "object_pk" or len(set(values)) > 1]
    # With types, because values without a type are text in a SELECT.
    picked = [f"{f'e.{name}' if name in varying else '%s'}::{TYPES.get(name, 'text')}" for name in columns]
    arrays = ", ".join(["json_array_elements_text(%s::json)"] * len(varying))
    source = f"ROWS FROM ({arrays}) WITH ORDINALITY AS e({','.join(varying)}, place)"
    sql = f"INSERT INTO declbind_event ({','.join(columns)}) SELECT {','.join(picked)} FROM {source} ORDER BY e.place"
    same = [values[0] for name, values in columns.items() if name not in varying]
    # Not escaped, as in ``_insert_values``.
    return sql, [*same, *(json.dumps(columns[name], ensure_ascii=False) for name in varying)]


def insert_placed(events: Sequence[Placed], column: str, connection: Connection) -> None:
    """Insert events with their numbers in ``column``.

    Each takes the actor, origin and time of the log row that it replaces. This process has made those that replace the
    mark of a trigger.
    """
    columns = (column, *COLUMNS)
    rows = [
        (
            number,
            draft.object_pk,
            _encode_changes(draft.changes),
            draft.data,
            connection.ops.adapt_datetimefield_value(row.created_at),
            draft.kind,
            draft.stream,
            draft.model,
            draft.version,
            row.actor,
            row.origin,
            draft.tenant,
            _process() if row.kind == Event.MARK else row.process,
            draft.code,
        )
        for number, draft, row in events
    ]
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO declbind_event ({','.join(columns)}) VALUES ({','.join(['%s'] * len(columns))})", rows
        )


def row_of(draft: Draft, connection: Connection, now: SqlValue = None) -> tuple[Sequence[str], list[SqlValue]]:
    """Return an event's row as SQL, with an expression for each of ``COLUMNS``, and the parameters.

    ``now`` is the time in the database's format. Callers that make many rows compute it once.
    """
    constant = (
        draft.kind, draft.stream, draft.model, draft.version, _actor.get(), _origin(), draft.tenant, _process(),
        draft.code,
    )  # fmt: skip
    row, values = _constant_part(constant)
    at = now or _adapted_now(connection)
    return row, [draft.object_pk, _encode_changes(draft.changes), draft.data, at, *values]


@functools.lru_cache(maxsize=1024)
def _constant_part(constant: tuple[str | int, ...]) -> tuple[Sequence[str], list[SqlValue]]:
    # Values without special characters are written into the statement, because a parameter costs as much as a field of
    # the saved row.
    is_inert = [_INERT.fullmatch(str(value)) is not None for value in constant]
    texts = [f"'{value}'" if inert else "%s" for value, inert in zip(constant, is_inert, strict=True)]
    values: list[SqlValue] = [value for value, inert in zip(constant, is_inert, strict=True) if not inert]
    return (*["%s"] * len(VARYING), *texts), values


def mark_values(*, actor: str, origin: str, created_at: str) -> str:
    """Return the values of a mark except the data, as SQL in the order of ``MARK_COLUMNS``."""
    values = {**dict.fromkeys(COLUMNS, "''"), **_MARK_VALUES, "actor": actor, "origin": origin}
    values["created_at"] = created_at
    del values["data"]
    return ", ".join(values.values())


def _adapted_now(connection: Connection) -> SqlValue:
    if connection.vendor == "sqlite" and connection.timezone is dt.UTC:
        # The same result as Django's adapter, in a fifth of its time.
        return str(dt.datetime.now(dt.UTC).replace(tzinfo=None))
    return connection.ops.adapt_datetimefield_value(timezone.now())


@functools.cache
def _origin() -> str:
    program = os.path.basename(sys.argv[0]) if sys.argv else ""
    argument = sys.argv[1] if len(sys.argv) > 1 and program == "manage.py" else ""
    return f"{program} {argument}".strip()[:150]


@functools.cache
def _process() -> str:
    """Return host and process number, as the console shows processes."""
    return f"{socket.gethostname()[:80]}:{os.getpid()}"


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_process.cache_clear)
