"""Shared steps of the tests that edit records under open sockets."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator

import pytest
from django.db import connection, connections, transaction
from pytest_django import Settings

from declbind.live import edits
from declbind.models import BindingRecord, Configuration
from declbind.outbound import entries, log, open_writes
from declbind.registry import database_alias, refresh
from declbind.testing import PATIENCE, Client
from tests.json_types import JSONObject
from tests.live import ANYONE, in_thread
from tests.zoo.models import Keeper

only_concurrent = pytest.mark.skipif(
    connection.vendor == "sqlite", reason="One transaction writes at a time on SQLite."
)
KEEPERS = {
    "stream": "keepers",
    "model": "zoo.Keeper",
    "fields": ["name", "retired"],
    "groups": ["name-{name}"],
    "permissions": ANYONE,
}


@pytest.fixture(autouse=True)
def no_grace(settings: Settings, transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Remove the grace period, wait for no open transaction, and start from the state of the database."""
    settings.DECLBIND = {"VERSION_CHECK_SECONDS": 0}
    monkeypatch.setattr(edits, "LOOK_SECONDS", 600)
    monkeypatch.setattr(edits, "find_moment", find_moment_in_time)
    refresh(force=True)
    yield
    refresh(force=True)


def find_moment_in_time(version: int, using: str) -> tuple[str | None, bool]:
    """Replace ``edits.find_moment``: without a grace period, each answer would be late."""
    return open_writes.present_moment(using), False


def let_writers_be_behind(settings: Settings, seconds: float) -> None:
    """Make the grace period after an edit this long. It is twice the time between two version checks."""
    settings.DECLBIND = {**settings.DECLBIND, "VERSION_CHECK_SECONDS": seconds / 2}


def save_record(document: JSONObject) -> None:
    record = BindingRecord.objects.filter(stream=document["stream"]).first() or BindingRecord()
    record.assign(document).save()


async def edit(**changes: object) -> None:
    await in_thread(save_record, {**KEEPERS, **changes})


async def subscribe(client: Client, stream: str = "keepers", **payload: object) -> JSONObject:
    reply = await client.request(stream, "subscribe", **{"params": {"name": "ann"}, **payload})
    assert reply["ok"], reply
    return reply


async def hire(name: str = "ann", **values: object) -> Keeper:
    return await Keeper.objects.acreate(name=name, **values)


async def write_as_before_the_edit(data: str, group: str = "name-ann", versions: int = 1) -> None:
    """Append the event of a writer that does not know the last edits yet."""

    def write() -> None:
        version = Configuration.objects.get().version - versions
        with transaction.atomic():
            draft = entries.Draft("keepers", "zoo.keeper", "1", ((group, "update"),), data, version)
            log.append([draft], database_alias())

    await in_thread(write)


async def remove() -> None:
    await in_thread(lambda: BindingRecord.objects.get(stream="keepers").delete())


def hold_a_write_open(name: str) -> tuple[Callable[[], Awaitable[None]], Callable[[], Awaitable[None]]]:
    """Return a function that writes a row in a transaction of another connection, and one that commits it."""
    written, end = threading.Event(), threading.Event()

    def run() -> None:
        try:
            with transaction.atomic():
                Keeper.objects.create(name=name)
                written.set()
                assert end.wait(PATIENCE)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)

    async def begin() -> None:
        thread.start()
        assert await asyncio.to_thread(written.wait, PATIENCE)

    async def commit() -> None:
        end.set()
        await asyncio.to_thread(thread.join, PATIENCE)

    return begin, commit
