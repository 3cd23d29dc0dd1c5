"""Why a frame did not arrive: causes that concern subscribers, connections and processes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from declbind.console.why import Cause, Certainty, events
from declbind.inbound.blocks import block
from declbind.live import housekeeping
from declbind.live.hub import get_hub
from declbind.models import BindingRecord, Event, Node, Traffic
from declbind.outbound import history
from declbind.registry import database_alias, refresh
from declbind.testing import Client, override_bindings
from tests.factories import make_user
from tests.live import BOARD, NUMBERS, in_thread, store
from tests.why_questions import ask, attend, cause_of, last_event, last_offset, stored

pytestmark = pytest.mark.django_db(transaction=True)


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
        (4429, Cause.OVER_LIMIT), (1006, Cause.PROCESS_LOST), ((1012, "Maintenance at noon"), Cause.KICKED),
        ((1012, "The process ended."), Cause.NOT_CONNECTED), ((1012, "The server is restarting."), Cause.NOT_CONNECTED),
    ],
)  # fmt: skip
def test_a_connection_that_had_ended_before(code: int | tuple[int, str], expected: Cause) -> None:
    """The way it ended explains why its user was not connected."""
    user = make_user()
    number, reason = code if isinstance(code, tuple) else (code, "")
    attend(user, closed_at=timezone.now() - timedelta(minutes=1), close_code=number, close_reason=reason)
    with override_bindings(NUMBERS):
        row = stored()
        last_event()
        assert cause_of(row.pk, user=user.username) is expected


def test_a_user_without_a_connection_after_a_refused_origin() -> None:
    """A refused handshake near that time is named too, because it does not identify its user."""
    with override_bindings(NUMBERS):
        row = stored()
        last_event()
        # Connections of the last seconds may not be stored yet, so nothing is certain about them.
        Event.objects.update(created_at=timezone.now() - timedelta(seconds=10))
        user = make_user()
        assert cause_of(row.pk, user=user.username) is Cause.NOT_CONNECTED
        refused = Traffic.objects.create(
            at=timezone.now(), kind=Traffic.REFUSED, outcome="origin", message="https://evil.example"
        )
        found = ask(row.pk, user=user.username).answers
        assert [(answer.cause, answer.certainty) for answer in found] == [
            (Cause.NOT_CONNECTED, Certainty.CERTAIN), (Cause.ORIGIN, Certainty.CANNOT_TELL),
        ]  # fmt: skip
        Traffic.objects.filter(pk=refused.pk).update(user_pk=str(user.pk), username=user.username)
        found = ask(row.pk, user=user.username).answers
        assert (Cause.ORIGIN, Certainty.CERTAIN) in [(answer.cause, answer.certainty) for answer in found]
        other = make_user()
        assert Cause.ORIGIN not in [answer.cause for answer in ask(row.pk, user=other.username).answers]


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
        assert [answer.cause for answer in answers if answer.connection] == [Cause.SENT, Cause.TOO_SLOW]
        assert "resume" in answers[0].text


def test_a_process_that_is_behind_or_gone() -> None:
    """Events that the process has not read were not sent."""
    user = make_user()
    with override_bindings(NUMBERS):
        row = stored()
        event = last_event()
        offset = events.offset_of(event)
        assert offset is not None
        Event.objects.update(created_at=timezone.now() - timedelta(minutes=1))
        attend(user, [["numbers", "name-a", None, offset - 1, ""]])
        Node.objects.update(offset=offset - 1)
        assert cause_of(row.pk, user=user.username) is Cause.PROCESS_BEHIND
        Node.objects.update(seen_at=timezone.now() - timedelta(hours=1))
        assert cause_of(row.pk, user=user.username) is Cause.PROCESS_LOST


def test_a_change_written_under_an_old_configuration() -> None:
    """It was not delivered, and subscribers got a resync."""
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
