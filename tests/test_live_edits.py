"""Transactions that are open across an edit: their writes to an unbound model cause a resync after they end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest
from django.db import OperationalError

from declbind.live import edits
from declbind.live.hub import get_hub
from declbind.models import Event
from declbind.outbound import open_writes
from declbind.testing import PATIENCE, Client
from tests.live import in_thread, next_payload, settle_hub, since_of
from tests.record_edits import (
    edit,
    find_moment_in_time,
    hold_a_write_open,
    let_writers_be_behind,
    no_grace,
    only_concurrent,
    subscribe,
)  # fmt: skip

__all__ = ["no_grace"]

pytestmark = [pytest.mark.django_db(transaction=True), only_concurrent]

find_moment = edits.find_moment

RESYNC = {"action": "resync", "reason": "config"}


@pytest.fixture(autouse=True)
def look_often(no_grace: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edits, "LOOK_SECONDS", 0.15)
    monkeypatch.setattr(edits, "find_moment", find_moment)


async def subscribe_to_nothing(client: Client) -> dict[str, object]:
    """Take a snapshot without the row of the open transaction."""
    reply = await subscribe(client, params={"name": "bob"}, snapshot=True)
    assert (await next_payload(client))["objects"] == []
    return reply


async def write_before_the_edit() -> Callable[[], Awaitable[None]]:
    """Write a row of an unbound model, bind the model, and return a function that commits the row."""
    begin, commit = hold_a_write_open("bob")
    await begin()
    await edit()
    return commit


async def count_ends() -> int:
    return await Event.objects.filter(kind=Event.CONTROL, data__contains='"written"').acount()


async def test_a_row_from_before_the_edit_causes_a_resync_after_its_commit(monkeypatch):
    """It has no event, and it is in no earlier snapshot."""
    asked, are_open = threading.Event(), open_writes.are_open

    def note_question(moment: str, using: str) -> bool:
        asked.set()
        return are_open(moment, using)

    monkeypatch.setattr(open_writes, "are_open", note_question)
    await get_hub()
    commit = await write_before_the_edit()
    # The first resync, for the edit itself, follows the first question.
    assert await asyncio.to_thread(asked.wait, PATIENCE)
    async with Client() as client:
        await settle_hub()
        await subscribe_to_nothing(client)
        assert await client.is_silent()
        await commit()
        assert await next_payload(client) == RESYNC
        await subscribe(client, params={"name": "bob"}, snapshot=True)
        [row] = (await next_payload(client))["objects"]
        assert row["data"]["name"] == "bob"
        assert await client.is_silent()
    assert await count_ends() == 1


async def test_a_process_that_starts_after_the_edit_awaits_the_transaction_too():
    """The age of the edit and the number of processes make no difference."""
    commit = await write_before_the_edit()
    async with Client() as client:
        await subscribe_to_nothing(client)
        await commit()
        assert await next_payload(client) == RESYNC


async def test_resuming_from_before_the_commit_is_a_resync():
    """A client that was disconnected at the end of the transaction gets a resync when it resumes."""
    commit = await write_before_the_edit()
    async with Client() as client:
        reply = await subscribe_to_nothing(client)
        await commit()
        assert await next_payload(client) == RESYNC
    async with Client() as client:
        since = since_of(reply)
        await subscribe(client, params={"name": "bob"}, since=since)
        assert await next_payload(client) == RESYNC


@pytest.mark.parametrize("knows_the_time", [True, pytest.param(False, id="control")])
async def test_a_commit_before_the_hub_asks_for_open_transactions_is_not_missed(monkeypatch, knows_the_time):
    """The hub's thread may be slow. The control takes a late answer for one in time, and misses the row."""
    commit = await write_before_the_edit()
    ask = threading.Event()

    def find_late(version: int, using: str) -> tuple[str | None, bool]:
        assert ask.wait(PATIENCE)
        moment, is_late = find_moment(version, using)
        return moment, is_late and knows_the_time

    monkeypatch.setattr(edits, "find_moment", find_late)
    monkeypatch.setattr(open_writes, "are_open", lambda moment, using: False)
    async with Client() as client:
        reply = await subscribe_to_nothing(client)
    await commit()
    ask.set()
    hub = await get_hub()
    await asyncio.gather(*hub.edits.tasks)
    async with Client() as client:
        await subscribe(client, params={"name": "bob"}, since=since_of(reply))
        if knows_the_time:
            assert await next_payload(client) == RESYNC
        assert await client.is_silent()
    assert await count_ends() == int(knows_the_time)


async def test_the_end_is_written_once_by_all_processes():
    """Each process waits for it, and only one of them writes it."""
    commit = await write_before_the_edit()
    await commit()
    version = await Event.objects.filter(kind=Event.CONTROL).values_list("version", flat=True).aget()
    for _ in range(3):
        await in_thread(edits.note_end, ["keepers"], version, "default")
    assert await count_ends() == 1
    await edit(fields=["name"])
    await in_thread(edits.note_end, ["keepers"], version + 1, "default")
    assert await count_ends() == 2


async def test_nothing_is_written_if_no_transaction_is_open(settings):
    """One resync follows the edit, at the end of the grace period."""
    await get_hub()
    let_writers_be_behind(settings, 3)
    await edit()
    async with Client() as client:
        await settle_hub()
        await subscribe(client)
        assert await next_payload(client) == RESYNC
        assert await client.is_silent()
    assert await count_ends() == 0


async def test_a_failing_database_is_queried_again(monkeypatch):
    """The subscribers get the resync once the database answers."""
    are_open, failures = open_writes.are_open, [OperationalError("gone")] * 3

    def fail_at_first(moment: str, using: str) -> bool:
        if failures:
            raise failures.pop()
        return are_open(moment, using)

    monkeypatch.setattr(open_writes, "are_open", fail_at_first)
    commit = await write_before_the_edit()
    async with Client() as client:
        await subscribe_to_nothing(client)
        await commit()
        assert await next_payload(client) == RESYNC


@pytest.mark.parametrize("blind", ["are_open", "oldest_seconds"])
async def test_a_hub_that_awaits_no_transaction_is_detected(monkeypatch, blind):
    """Negative control: the client never learns of the row."""
    monkeypatch.setattr(open_writes, blind, lambda *args: 0)
    monkeypatch.setattr(edits, "find_moment", find_moment_in_time)
    monkeypatch.setattr(open_writes, "outdated_seconds", lambda using: 0)
    commit = await write_before_the_edit()
    async with Client() as client:
        await subscribe_to_nothing(client)
        await commit()
        await asyncio.sleep(8 * edits.LOOK_SECONDS)
        assert await client.is_silent()
