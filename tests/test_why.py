"""Why a frame arrived or did not: each cause in its situation, and all answers against what happened."""

from __future__ import annotations

import json
import random
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from declbind.console import why
from declbind.console.connections import ListedSubscription
from declbind.console.why import delivery
from declbind.console.why.causes import Cause
from declbind.inbound.blocks import block
from declbind.live import housekeeping
from declbind.live.hub import get_hub
from declbind.models import BindingRecord, Connection, Event, Node, Traffic, editing
from declbind.outbound import history, sequencer
from declbind.outbound.batch import Batch
from declbind.outbound.index import current_index
from declbind.outbound.triggers import upkeep
from declbind.registry import database_alias, refresh
from declbind.testing import Client, override_bindings
from example_site.example.models import IntegerValue
from tests.factories import make_user
from tests.live import BOARD, NUMBERS, in_thread, store, subscribe
from tests.zoo.models import Sample

pytestmark = pytest.mark.django_db(transaction=True)


def ask(row: Any, stream: str = "numbers", **values: Any) -> why.Explanation:
    return why.explain(why.Question(stream, str(row), **values), database_alias())


def cause_of(row: Any, stream: str = "numbers", **values: Any) -> Cause:
    """Return the cause that is named first."""
    return ask(row, stream, **values).answers[0].cause


def stored(**values: Any) -> IntegerValue:
    return IntegerValue.objects.create(**{"name": "a", "value": 1, **values})


def run(sql: str, *params: Any) -> None:
    """Write without the ORM."""
    with connection.cursor() as cursor:
        cursor.execute(sql, params)


def declare_lost(model: Any) -> None:
    """Make capture report that the written rows of a model are unknown."""
    plan = current_index().plan_for(model)
    assert plan is not None
    batch = Batch(database_alias())
    batch.lose_track(plan)
    batch.append()


def last_event() -> Event:
    """Return the last event, numbered as the relay would number it."""
    from declbind.outbound import relay

    if history.needs_sequencer(database_alias()):
        relay.run_once(database_alias())
    return Event.objects.exclude(kind=Event.CONTROL).latest("pk")


def last_offset() -> int:
    offset = delivery.offset_of(last_event())
    assert offset is not None
    return offset


def attend(user: Any = None, heard: list[list[Any]] | None = None, name: str = "c", **values: Any) -> Connection:
    """Store a connection of a live process that has read the whole log."""
    now = timezone.now()
    Node.objects.update_or_create(
        id="n", defaults={"host": "web", "pid": 7, "started_at": now, "seen_at": now, "offset": 10**9}
    )
    opened = {"opened_at": now - timedelta(minutes=5), "node": "n", **values}
    who = {"user_pk": str(user.pk), "username": user.username} if user else {}
    return Connection.objects.create(
        id=name, subscriptions=json.dumps(heard or [], separators=(",", ":")), **who, **opened
    )


# --- writes without a change ---------------------------------------------------------------------------------------


def test_an_undefined_stream() -> None:
    """If it was removed, the answer names the author."""
    assert cause_of(1, "nothing") is Cause.NO_BINDING
    record = BindingRecord.objects.create(stream="gone", model="example.IntegerValue", fields=["name"])
    record.delete()
    answer = ask(1, "gone").answers[0]
    assert (answer.cause, answer.evidence[0][0]) == (Cause.NO_BINDING, "removed at")


def test_a_binding_that_is_disabled_or_invalid() -> None:
    """Neither of them sends."""
    record = BindingRecord.objects.create(stream="off", model="example.IntegerValue", fields=["name"], enabled=False)
    refresh()
    assert cause_of(1, "off") is Cause.NOT_IN_FORCE
    BindingRecord.objects.filter(pk=record.pk)._raw_delete("default")
    refresh(force=True)


def test_a_binding_that_was_disabled_then() -> None:
    """The revision of that time decides."""
    record = BindingRecord(stream="later", model="example.IntegerValue", fields=["name"], enabled=False)
    with editing():
        record.save()
    then = timezone.now()
    record.enabled = True
    record.save()
    refresh()
    assert cause_of(1, "later", at=then) is Cause.NOT_IN_FORCE


def test_an_inbound_binding() -> None:
    """An inbound binding sends nothing."""
    with override_bindings({**NUMBERS, "direction": "inbound"}):
        assert cause_of(stored().pk) is Cause.CLOSED_DIRECTION


def test_a_row_that_was_never_committed() -> None:
    """Its transaction did not commit."""
    with override_bindings(NUMBERS):
        assert cause_of(4711) is Cause.ROLLED_BACK


def test_a_row_outside_of_where() -> None:
    """For clients it does not exist."""
    with override_bindings({**NUMBERS, "where": {"value": 5}}):
        assert cause_of(stored(value=1).pk) is Cause.OUTSIDE_WHERE


def test_a_row_whose_write_was_not_captured() -> None:
    """It exists without an event, or differs from its last event."""
    row = stored()
    with override_bindings(NUMBERS):
        assert cause_of(row.pk) is Cause.NOT_CAPTURED
        row.save()
        assert cause_of(row.pk) is not Cause.NOT_CAPTURED
        run("UPDATE example_integervalue SET value = 99 WHERE id = %s", row.pk)
        answer = ask(row.pk).answers[0]
        assert answer.cause is Cause.NOT_CAPTURED
        assert "value" in answer.text
        assert ("not seen", "Raw SQL and other programs.") in answer.evidence
        by_triggers = "declbind triggers --install" in answer.remedy
        assert by_triggers is (connection.vendor != "mysql")
        assert "declbind.touch(queryset)" in answer.remedy
        row.refresh_from_db()
        row.save()
        assert cause_of(row.pk) is not Cause.NOT_CAPTURED
        run("DELETE FROM example_integervalue WHERE id = %s", row.pk)
        answer = ask(row.pk).answers[0]
        assert (answer.cause, answer.text) == (Cause.NOT_CAPTURED, "The row is gone, and the log does not say so.")


@pytest.mark.needs_triggers
def test_a_row_written_by_sql_while_its_triggers_are_missing() -> None:
    """The advice names the specific problem, not the general one; with the triggers it is announced."""
    watching = {**NUMBERS, "capture": "triggers"}
    with override_bindings(watching):
        row = stored()
        run("UPDATE example_integervalue SET value = 99 WHERE id = %s", row.pk)
        answer = ask(row.pk).answers[0]
        assert answer.cause is Cause.NOT_CAPTURED
        assert answer.remedy == "Run `manage.py declbind triggers --install`."
        upkeep.install(database_alias())
        try:
            run("UPDATE example_integervalue SET value = 98 WHERE id = %s", row.pk)
            found = ask(row.pk).answers
            assert [found[0].cause, found[0].evidence] == [Cause.NOT_SEQUENCED, (("notes that wait", 1),)]
            sequencer.settle(database_alias())
            assert cause_of(row.pk) is Cause.NOBODY_SUBSCRIBED
        finally:
            upkeep.remove(database_alias())


@pytest.mark.parametrize(
    ("heard", "expected"),
    [([], Cause.NOBODY_SUBSCRIBED), ([["numbers", "name-a", None, 0, ""]], Cause.SENT)],
)
def test_a_row_of_a_bulk_event(settings: Any, heard: list[Any], expected: Cause) -> None:
    """The answer says that its groups were told to take a snapshot, and counts as sent."""
    settings.DECLBIND = {"BULK_LIMIT": 2}
    with override_bindings(NUMBERS):
        rows = [stored(name=name) for name in "aab"]
        other = stored(name="z")
        IntegerValue.objects.exclude(pk=other.pk).update(value=77)
        last_event()
        if heard:
            attend(make_user(), heard)
        found = ask(rows[0].pk)
        assert [answer.cause for answer in found.answers] == [Cause.BULK_RESYNC, expected]
        assert found.has_arrived is bool(heard)
        assert "More than 2 rows were written by one call" in found.answers[0].text
        assert f"at offset {last_offset()}" in found.answers[0].text
        assert ("groups asked", 2) in found.answers[0].evidence
        assert cause_of(rows[0].pk, at=timezone.now()) is Cause.BULK_RESYNC
        assert cause_of("", offset=last_offset()) is Cause.BULK_RESYNC
        # A row that was not part of it has its own event, and an uncaptured write is not part of a bulk event.
        assert cause_of(other.pk) is not Cause.BULK_RESYNC
        run("UPDATE example_integervalue SET value = 5 WHERE id = %s", other.pk)
        assert cause_of(other.pk) is Cause.NOT_CAPTURED


def test_a_row_without_events_but_a_bulk_event(settings: Any) -> None:
    """A row that such a call created, and one that it deleted."""
    settings.DECLBIND = {"BULK_LIMIT": 2}
    with override_bindings(NUMBERS):
        rows = IntegerValue.objects.bulk_create([IntegerValue(name="a", value=number) for number in range(3)])
        assert cause_of(rows[0].pk) is Cause.BULK_RESYNC
        IntegerValue.objects.get(pk=rows[0].pk).save()
        assert cause_of(rows[0].pk) is not Cause.BULK_RESYNC
        IntegerValue.objects.all().delete()
        assert cause_of(rows[0].pk) is Cause.BULK_RESYNC


def test_a_resync_of_every_group_concerns_every_subscriber(settings: Any) -> None:
    """If the written rows are unknown nobody is left out, and the answer says so."""
    with override_bindings(NUMBERS):
        row = stored()
        last_event()
        declare_lost(IntegerValue)
        run("UPDATE example_integervalue SET value = 5 WHERE id = %s", row.pk)
        offset = last_offset()
        user = make_user()
        attend(user, [["numbers", "name-other", None, offset - 1, ""]])
        found = ask(row.pk, user=user.username).answers
    assert [answer.cause for answer in found] == [Cause.BULK_RESYNC, Cause.SENT]
    assert "every group of the stream" in found[0].text


def test_a_time_at_which_nothing_was_committed() -> None:
    """The row equals its last event, so any later attempt changed nothing."""
    with override_bindings(NUMBERS):
        row = stored()
        Event.objects.update(created_at=timezone.now() - timedelta(minutes=30))
        assert cause_of(row.pk, at=timezone.now()) is Cause.ROLLED_BACK
        assert cause_of(row.pk, at=timezone.now() - timedelta(hours=2)) is Cause.EXPIRED


def test_a_fault_of_the_binding() -> None:
    """The fault was recorded when it happened."""
    with override_bindings(NUMBERS):
        row = stored()
        Event.objects.all().delete()
        Traffic.objects.create(
            at=timezone.now(), kind=Traffic.ERROR, stream="numbers", object_pk=str(row.pk), outcome="KeyError",
            message="The binding failed.",
        )  # fmt: skip
        assert cause_of(row.pk) is Cause.BINDING_FAILED


def test_a_row_whose_group_field_is_null() -> None:
    """It is in no group, and the answer names the field."""
    spread = {"stream": "numbers", "model": "zoo.Sample", "fields": ["count"], "groups": ["count-{count}"]}
    with override_bindings(spread):
        answer = ask(Sample.objects.create().pk).answers[0]
    assert answer.cause is Cause.NO_GROUP
    assert "count" in answer.text


# --- announced changes ---------------------------------------------------------------------------------------------


def test_a_change_without_a_number() -> None:
    """With a sequencer the change cannot be sent before; on SQLite its id is its number."""
    expected = Cause.NOT_SEQUENCED if history.needs_sequencer(database_alias()) else Cause.NOBODY_SUBSCRIBED
    with override_bindings(NUMBERS):
        assert cause_of(stored().pk) is expected


def test_a_change_with_and_without_subscribers() -> None:
    """Without a user the answer covers all connections."""
    with override_bindings(NUMBERS):
        row = stored()
        offset = last_offset()
        assert cause_of(row.pk) is Cause.NOBODY_SUBSCRIBED
        attend(make_user(), [["numbers", "name-a", None, offset - 1, ""]])
        assert cause_of(row.pk) is Cause.SENT


@pytest.mark.parametrize(
    ("heard", "expected"),
    [
        (["numbers", "name-a", None, -1, ""], Cause.SENT),
        (["numbers", "name-a", 0, -1, ""], Cause.SENT),
        (["numbers", "name-a", None, 0, ""], Cause.NOT_SUBSCRIBED),
        (["numbers", "name-b", None, -1, ""], Cause.NOT_SUBSCRIBED),
        (["board", "name-a", None, -1, ""], Cause.NOT_SUBSCRIBED),
        (["numbers", "name-a", -1, -2, "client"], Cause.NOT_SUBSCRIBED),
        (["numbers", "name-a", -1, -2, "permission"], Cause.REVOKED),
        (["numbers", "name-a", -1, -2, "disabled"], Cause.NOT_IN_FORCE),
    ],
)
def test_the_offsets_of_a_subscription_decide(heard: list[Any], expected: Cause) -> None:
    """The offsets are those around the change."""
    user = make_user()
    with override_bindings(NUMBERS):
        row = stored()
        offset = last_offset()
        stream, group, until, after, reason = heard
        attend(user, [[stream, group, None if until is None else offset + until, offset + after, reason]])
        assert cause_of(row.pk, user=user.username) is expected
        assert cause_of(row.pk, user=str(user.pk)) is expected


@pytest.mark.parametrize(
    ("outcome", "expected"), [("denied", Cause.REFUSED), ("too_many_subscriptions", Cause.OVER_LIMIT)]
)
def test_a_subscription_that_was_refused(outcome: str, expected: Cause) -> None:
    """The refusal is in the traffic, and the answer names the rule."""
    user = make_user()
    with override_bindings({**NUMBERS, "permissions": {}}):
        row = stored()
        last_event()
        attend(user, name="c")
        Traffic.objects.create(
            at=timezone.now(), kind=Traffic.REFUSED, connection="c", stream="numbers", action="subscribe",
            outcome=outcome, message="Not allowed.",
        )  # fmt: skip
        answer = ask(row.pk, user=user.username).answers[0]
        assert answer.cause is expected
        assert ("view is for", "who has example.view_integervalue") in answer.evidence


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (1000, Cause.NOT_CONNECTED), (4401, Cause.REVOKED), (4403, Cause.KICKED), (4408, Cause.TOO_SLOW),
        (4429, Cause.OVER_LIMIT), (1006, Cause.PROCESS_LOST),
    ],
)  # fmt: skip
def test_a_connection_that_was_over_before(code: int, expected: Cause) -> None:
    """The way it ended explains why its user was not connected."""
    user = make_user()
    attend(user, closed_at=timezone.now() - timedelta(minutes=1), close_code=code)
    with override_bindings(NUMBERS):
        row = stored()
        last_event()
        assert cause_of(row.pk, user=user.username) is expected


def test_a_user_who_never_came_perhaps_for_the_page_is_foreign() -> None:
    """A refused handshake near that time is named as well, because it does not identify its user."""
    with override_bindings(NUMBERS):
        row = stored()
        last_event()
        assert cause_of(row.pk, user="nobody") is Cause.NOT_CONNECTED
        Traffic.objects.create(
            at=timezone.now(), kind=Traffic.REFUSED, outcome="origin", message="https://evil.example"
        )
        assert [answer.cause for answer in ask(row.pk, user="nobody").answers] == [Cause.NOT_CONNECTED, Cause.ORIGIN]


def test_an_overflow_and_the_resume_after_it() -> None:
    """Both connections of the user are in the answer."""
    user = make_user()
    with override_bindings(NUMBERS):
        row = stored()
        offset = last_offset()
        heard = [["numbers", "name-a", offset + 2, offset - 5, "closed"]]
        attend(user, heard, closed_at=timezone.now(), close_code=4408, offset=offset + 2)
        assert cause_of(row.pk, user=user.username) is Cause.TOO_SLOW
        attend(user, [["numbers", "name-a", None, offset - 1, ""]], "again", opened_at=timezone.now())
        answers = ask(row.pk, user=user.username).answers
        assert [answer.cause for answer in answers] == [Cause.SENT, Cause.TOO_SLOW]
        assert "resume" in answers[0].text


def test_a_process_that_is_behind_or_gone() -> None:
    """Events that the process has not read were not sent."""
    user = make_user()
    with override_bindings(NUMBERS):
        row = stored()
        event = last_event()
        offset = delivery.offset_of(event)
        assert offset is not None
        Event.objects.update(created_at=timezone.now() - timedelta(minutes=1))
        attend(user, [["numbers", "name-a", None, offset - 1, ""]])
        Node.objects.update(offset=offset - 1)
        assert cause_of(row.pk, user=user.username) is Cause.PROCESS_BEHIND
        Node.objects.update(seen_at=timezone.now() - timedelta(hours=1))
        assert cause_of(row.pk, user=user.username) is Cause.PROCESS_LOST


def test_a_change_written_under_an_old_configuration() -> None:
    """It was not delivered, and subscribers were told to take a snapshot."""
    user = make_user()
    record = BindingRecord.objects.create(**{**NUMBERS, "stream": "numbers"})
    refresh()
    record.groups = ["value-{value}"]
    record.save()
    refresh()
    row = stored()
    event = last_event()
    Event.objects.filter(pk=event.pk).update(version=event.version - 1)
    attend(user, [["numbers", "value-1", None, -1, ""]])
    assert cause_of(row.pk, user=user.username) is Cause.OLD_VERSION
    record.delete()
    refresh()


# --- compared with what happened -----------------------------------------------------------------------------------


async def play(seed: int) -> list[tuple[bool, Cause]]:
    """Let clients connect, disconnect and change subscriptions among writes.

    Return for each client and change whether its frame arrived, and the answer about it.
    """
    dice = random.Random(seed)
    names = ["a", "b"]
    users = [await in_thread(make_user) for _ in range(3)]
    clients: list[Client | None] = [None] * len(users)
    arrived: list[set[int]] = [set() for _ in users]
    rows: list[tuple[int, int]] = []

    async def drain(position: int) -> None:
        client = clients[position]
        if client is None:
            return
        hub = await get_hub()
        await hub.settle()
        while not await client._communicator.receive_nothing(0.02, 0.01):
            frame = await client.receive()
            if frame["payload"]["action"] in ("create", "update", "delete"):
                arrived[position].add(frame["offset"])
        for frame in client._kept:
            if frame["payload"]["action"] in ("create", "update", "delete"):
                arrived[position].add(frame["offset"])

    for _ in range(25):
        position = dice.randrange(len(users))
        client = clients[position]
        match dice.choice(["write", "write", "write", "subscribe", "subscribe", "unsubscribe", "leave"]):
            case "write":
                row = await store(dice.choice(names), dice.randrange(9))
                event = await Event.objects.exclude(kind=Event.CONTROL).alatest("pk")
                rows.append((row.pk, event.pk))
            case "subscribe":
                if client is None:
                    client = clients[position] = Client(user=users[position])
                    assert await client.connect()
                await subscribe(client, dice.choice(names))
            case "unsubscribe" if client is not None:
                await client.request("numbers", "unsubscribe", params={"name": dice.choice(names)})
            case "leave" if client is not None:
                await drain(position)
                await client.disconnect()
                clients[position] = None
    hub = await get_hub()
    await hub.settle()
    for position in range(len(users)):
        await drain(position)
    await housekeeping.beat(hub)
    await housekeeping.write_connections(hub)
    found = []
    for row_pk, event_pk in rows:
        event = await Event.objects.aget(pk=event_pk)
        for position, user in enumerate(users):
            answer = await in_thread(cause_of, row_pk, user=user.username)
            found.append((delivery.offset_of(event) in arrived[position], answer))
    for client in clients:
        if client is not None:
            await client.disconnect()
    return found


@pytest.mark.parametrize("seed", range(3))
async def test_the_answers_agree_with_what_happened(seed: int) -> None:
    """The answer says "sent" exactly if the frame arrived."""
    with override_bindings(NUMBERS):
        found = await play(seed)
    assert {True, False} <= {arrived for arrived, _ in found}
    assert [(arrived, cause) for arrived, cause in found if arrived != (cause is Cause.SENT)] == []


async def test_the_comparison_catches_an_answer_that_is_one_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: subscriptions that seem to begin one change too early."""
    monkeypatch.setattr(ListedSubscription, "covers", lambda self, offset: self.after <= offset)
    with override_bindings(NUMBERS):
        found = [pair for seed in range(3) for pair in await play(seed)]
    assert [pair for pair in found if pair[0] != (pair[1] is Cause.SENT)]


async def test_a_blocked_user_gets_no_later_changes() -> None:
    """The answer names the disconnect."""
    user = await in_thread(make_user)
    with override_bindings(BOARD):
        async with Client(user=user) as client:
            await in_thread(block, str(user.pk), timedelta(hours=1))
            await client.wait_closed()
        hub = await get_hub()
        await housekeeping.beat(hub)
        await housekeeping.write_connections(hub)
        row = await store()
        await hub.settle()
        assert await in_thread(cause_of, row.pk, "board", user=user.username) is Cause.KICKED


def test_every_cause_has_a_meaning() -> None:
    """Each meaning is a whole sentence, and each is different."""
    titles = [cause.value.title for cause in Cause]
    assert all(title.endswith(".") for title in titles)
    assert len(set(titles)) == len(titles)
