"""Snapshots: the current rows of a group, in one state of the database that an offset of the log identifies."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from django.db import models
from django.db.models import Model

from declbind.bindings import Binding
from declbind.conf import settings
from declbind.core.errors import ClientError
from declbind.equality import only_equal
from declbind.outbound import sequencer, sessions
from declbind.outbound.head_lock import NumberingBlockedError
from declbind.serializers import encode_key, encode_value
from declbind.serializers.lists import load_lists
from declbind.stored_rows import AnyRow, StoredRow, model_of
from declbind.stored_values import column_of
from declbind.tenancy import run_in

from .fair_queue import Client, FairGate, current_client, working_for
from .threads import RequestThreads

#: The maximum size of a snapshot page in characters, so that a slow reader receives it in time.
PAGE_CHARACTERS = 65_536
#: The number of rows that are read at once if project code selects among them.
READ_ROWS = 1_000
#: The error message while the rows cannot be read together with an offset.
BLOCKED = "The server's event log is locked, so the current rows cannot be read. Try again in some seconds."

logger = logging.getLogger("declbind")

#: The key of a shared read: the tenant, the binding class and the group.
_Key = tuple[str, type[Binding], str]


@dataclass(frozen=True)
class Snapshot:
    """The rows of a group in the state of the database after the event at ``offset``."""

    offset: int
    pages: list[list[tuple[str, str]]]


class SnapshotDesk:
    """The snapshot reads of one hub. Their number is limited, for each client to one, and equal requests share a read.

    A request joins a read only if that read has not begun. A snapshot is therefore never older than its request, nor
    than any frame that the client was sent before on any connection. Belongs to the event loop.
    """

    def __init__(self, threads: RequestThreads, at_once: int) -> None:
        self._threads = threads
        #: The remaining threads are left to other requests.
        self._gate = FairGate(at_once)
        #: The last requested read by tenant, binding class and group. An edit of a binding makes a new class.
        self._last: dict[_Key, _SharedRead] = {}

    async def take(
        self, bound: Binding, group: str, params: Mapping[str, object], using: str, tenant: str = ""
    ) -> Snapshot:
        """Return a snapshot of a group that is not older than this call.

        Raises:
            ClientError: The group has too many rows (``too_large``).
        """
        if not _is_same_for_all(type(bound)):
            async with self._gate.hold():
                return await self._threads.run(run_in, tenant, read_snapshot, bound, group, params, using)
        key = (tenant, type(bound), group)
        shared = self._last.get(key)
        if shared is None or shared.has_begun:
            earlier, shared = shared, _SharedRead(tenant, bound, group, params, using)
            self._last[key] = shared
            shared.task = asyncio.create_task(self._read(shared, earlier))
            shared.task.add_done_callback(partial(self._forget, key, shared))
        else:
            self._ask_for(shared)
        assert shared.task is not None
        # The first request may be cancelled while others still wait for the read.
        return await asyncio.shield(shared.task)

    async def _read(self, shared: _SharedRead, earlier: _SharedRead | None) -> Snapshot:
        if earlier is not None and earlier.task is not None:
            # Reads of one group run one after the other, so that they do not take all places. More requests can join
            # this one until it begins.
            await asyncio.wait({earlier.task})
        place = shared.place = asyncio.get_running_loop().create_future()
        for client in shared.clients.values():
            self._gate.ask(client, place)
        client = await self._gate.wait(place)
        try:
            with working_for(client):
                return await self._threads.run(shared.read)
        finally:
            self._gate.leave(client)

    def _ask_for(self, shared: _SharedRead) -> None:
        """Queue a shared read on behalf of the running client."""
        client = current_client()
        if client.owner not in shared.clients:
            shared.clients[client.owner] = client
            if shared.place is not None:
                self._gate.ask(client, shared.place)

    def _forget(self, key: _Key, shared: _SharedRead, done: asyncio.Task[Snapshot]) -> None:
        if self._last.get(key) is shared:
            del self._last[key]
        if not done.cancelled():
            done.exception()


class _SharedRead:
    """A read of a snapshot that several requests wait for."""

    __slots__ = ("_arguments", "_tenant", "clients", "has_begun", "place", "task")

    def __init__(self, tenant: str, bound: Binding, group: str, params: Mapping[str, object], using: str) -> None:
        self._tenant = tenant
        self._arguments = bound, group, params, using
        self.task: asyncio.Task[Snapshot] | None = None
        #: One socket of each waiting client. The read begins at the first turn of one of them.
        self.clients = {client.owner: client for client in [current_client()]}
        self.place: asyncio.Future[Client] | None = None
        #: Set by the reading thread before its first query. Read by the event loop.
        self.has_begun = False

    def read(self) -> Snapshot:
        """Read the snapshot. Blocks on the database."""
        self.has_begun = True
        return run_in(self._tenant, read_snapshot, *self._arguments)


def _is_same_for_all(binding: type[Binding]) -> bool:
    """Return whether the rows of a group are the same for all users. A scope is part of the group."""
    return not binding.runs_code() and not binding.overrides("get_queryset", "scoped", "subscription_group")


def select_rows(bound: Binding, params: Mapping[str, object]) -> models.QuerySet[Model]:
    """Return the rows of a subscription, ordered by key.

    If groups are project code, the caller must select from them with ``is_in_group``.
    """
    rows = bound.scoped(bound.get_queryset())
    if not has_group_code(bound):
        rows = only_equal(rows, params)
    return rows.order_by("pk")


def has_group_code(bound: Binding) -> bool:
    """Return whether project code determines the groups of a row, so that no query can."""
    return bound.overrides("group_names", "subscription_group")


def is_in_group(bound: Binding, group: str, row: Model) -> bool:
    """Return whether a selected row is in the group. Only project code for groups needs this check."""
    return not has_group_code(bound) or group in bound.group_names(row)


def load_rows(bound: Binding, group: str, params: Mapping[str, object], limit: int) -> Sequence[AnyRow]:
    """Load at most ``limit`` rows of a group, ordered by key. Blocks on the database.

    The rows are model instances only if project code needs them. If project code computes the groups, the rows of the
    table are read in portions, and the rows of the group are kept, until there are enough.
    """
    rows = select_rows(bound, params)
    if not has_group_code(bound):
        return list(rows[:limit]) if bound.runs_code() else _load_columns(bound, rows, limit)
    read = rows.iterator(chunk_size=READ_ROWS)
    return list(islice((row for row in read if is_in_group(bound, group, row)), limit))


def _load_columns(bound: Binding, rows: models.QuerySet[Model], limit: int) -> list[StoredRow]:
    """Read the sent columns of selected rows, without making instances of the model."""
    model: Any = bound.model_class()
    columns = [column_of(field) for field in bound.bound_fields() if not field.many_to_many]
    names = list(dict.fromkeys(field.attname for field in (model._meta.pk, *columns)))
    if type(model._base_manager) is not models.Manager or bound.overrides("get_queryset", "scoped"):
        # The query of a manager or of project code may join, group or annotate, so it only selects keys in a subquery.
        rows = models.QuerySet(model, using=rows.db).filter(pk__in=rows.order_by().values("pk")).order_by("pk")
    return [
        StoredRow(model, dict(zip(names, values, strict=True)), rows.db) for values in rows[:limit].values_list(*names)
    ]


def read_snapshot(bound: Binding, group: str, params: Mapping[str, object], using: str) -> Snapshot:
    """Read the rows of a group. Blocks on the database.

    Raises:
        ClientError: The group has too many rows (``too_large``), or another session of the database holds the lock of
            the log (``internal``).
    """
    try:
        return _read_numbered(bound, group, params, using)
    except NumberingBlockedError as error:
        logger.error("A snapshot of stream %r was refused: %s", bound.stream, sessions.describe_holders(using) or error)
        raise ClientError("internal", BLOCKED) from error


def _read_numbered(bound: Binding, group: str, params: Mapping[str, object], using: str) -> Snapshot:
    limit: int = settings.MAX_SNAPSHOT_ROWS
    with sequencer.numbered_read(using) as head:
        found = load_rows(bound, group, params, limit + 1)
        if len(found) > limit:
            raise ClientError("too_large", f"Expected at most {limit} rows in a snapshot, this group has more.")
        load_lists(found, bound.list_fields(), using)
        objects = [
            (encode_key(row.pk, model_of(row)._meta.pk), encode_value(bound.outgoing_data(row))) for row in found
        ]
    return Snapshot(head.offset, _in_pages(objects))


def _in_pages(objects: list[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    """Split rows into pages. There is at least one, because the client waits for the final page."""
    pages: list[list[tuple[str, str]]] = [[]]
    size = 0
    for pk, data in objects:
        size += len(pk) + len(data)
        if pages[-1] and (len(pages[-1]) >= settings.SNAPSHOT_PAGE_ROWS or size > PAGE_CHARACTERS):
            pages.append([])
            size = len(pk) + len(data)
        pages[-1].append((pk, data))
    return pages
