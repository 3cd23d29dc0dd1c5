"""Take snapshots: the current rows of a group, as of one state of the database that has a place in the log."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db import models

from declbind.bindings import Binding
from declbind.conf import settings
from declbind.core.errors import ClientError
from declbind.equality import only_equal
from declbind.outbound import sequencer
from declbind.serializers import encode_key, encode_value
from declbind.serializers.lists import load_lists

from .threads import RequestThreads

#: A page of a snapshot ends here at the latest, however few its rows: a slow reader must get through it in time.
PAGE_CHARACTERS = 65_536
#: So many are read at once; further ones wait, and leave the other threads to requests.
SNAPSHOTS_AT_ONCE = 2


@dataclass(frozen=True)
class Snapshot:
    """The rows of one state of the database: that after the event at ``offset``."""

    offset: int
    pages: list[list[tuple[str, str]]]


class SnapshotDesk:
    """Read snapshots, a few at a time, and one for all who ask for the same while it is being read.

    That a snapshot may be a little older than the request does no harm: the log carries on from its offset.
    """

    def __init__(self, threads: RequestThreads) -> None:
        self._threads = threads
        self._free = asyncio.Semaphore(SNAPSHOTS_AT_ONCE)
        self._under_way: dict[Any, asyncio.Task[Snapshot]] = {}

    async def take(self, bound: Binding, group: str, params: Mapping[str, Any], using: str) -> Snapshot:
        """Return a snapshot of a group; raises ``ClientError`` ``too_large``."""
        if not _is_same_for_all(type(bound)):
            return await self._read(bound, group, params, using)
        # The class stands for the configuration too: an edit makes another one.
        key = (type(bound), group)
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.create_task(self._read(bound, group, params, using))
            task.add_done_callback(lambda done: self._forget(key, done))
        # Whoever came first may leave; the others still wait.
        return await asyncio.shield(task)

    async def _read(self, bound: Binding, group: str, params: Mapping[str, Any], using: str) -> Snapshot:
        async with self._free:
            return await self._threads.run(read_snapshot, bound, group, params, using)

    def _forget(self, key: Any, done: asyncio.Task[Snapshot]) -> None:
        del self._under_way[key]
        if not done.cancelled():
            done.exception()


def _is_same_for_all(binding: type[Binding]) -> bool:
    """Tell whether the rows of a group do not depend on who asks (a scope is part of the group)."""
    return not binding.runs_code() and not binding.overrides("get_queryset", "scoped", "subscription_group")


def select_rows(bound: Binding, params: Mapping[str, Any]) -> models.QuerySet[Any]:
    """Return the rows of a subscription by key; where groups are code, ``is_heard_in`` has to look at each."""
    rows = bound.scoped(bound.get_queryset())
    if not bound.overrides("group_names", "subscription_group"):
        rows = only_equal(rows, params)
    return rows.order_by("pk")


def is_heard_in(bound: Binding, group: str, row: Any) -> bool:
    """Tell whether a selected row is in the group; only code of the project need be asked."""
    return not bound.overrides("group_names", "subscription_group") or group in bound.group_names(row)


def read_snapshot(bound: Binding, group: str, params: Mapping[str, Any], using: str) -> Snapshot:
    """Read the rows of a group; blocks on the database. Raises ``ClientError`` ``too_large``."""
    limit: int = settings.MAX_SNAPSHOT_ROWS
    with sequencer.numbered_read(using) as head:
        found = list(select_rows(bound, params)[: limit + 1])
        if len(found) > limit:
            raise ClientError("too_large", f"Expected at most {limit} rows in a snapshot, this group has more.")
        found = [row for row in found if is_heard_in(bound, group, row)]
        load_lists(found, (field for field in bound.bound_fields() if field.many_to_many), using)
        objects = [(encode_key(row.pk, row._meta.pk), encode_value(bound.serialize_data(row))) for row in found]
    return Snapshot(head.offset, _in_pages(objects))


def _in_pages(objects: list[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    """Cut rows into pages; there is always one, for the client waits for the final one."""
    pages: list[list[tuple[str, str]]] = [[]]
    size = 0
    for pk, data in objects:
        size += len(pk) + len(data)
        if pages[-1] and (len(pages[-1]) >= settings.SNAPSHOT_PAGE_ROWS or size > PAGE_CHARACTERS):
            pages.append([])
            size = len(pk) + len(data)
        pages[-1].append((pk, data))
    return pages
