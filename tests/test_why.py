"""Why a frame did not arrive: causes that concern the binding, the row and its write."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from declbind.console.why import Cause, Certainty, Question, explain, find_step
from declbind.models import BindingRecord, Event, Head, Traffic, editing
from declbind.outbound import sequencer
from declbind.outbound.triggers import upkeep
from declbind.registry import database_alias, refresh
from declbind.testing import override_bindings
from example_site.example.models import IntegerValue
from tests.factories import make_user
from tests.live import NUMBERS
from tests.why_questions import ask, attend, cause_of, declare_lost, last_event, last_offset, run, stored
from tests.zoo.models import Sample

pytestmark = pytest.mark.django_db(transaction=True)


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
    """Its transaction did not commit, or the key is wrong if it is far from those that were given out."""
    with override_bindings(NUMBERS):
        assert cause_of(stored().pk + 1) is Cause.ROLLED_BACK
        assert cause_of(stored().pk + 100_000) is Cause.WRONG_KEY
        answer = ask("no number").answers[0]
        assert (answer.cause, answer.certainty) == (Cause.WRONG_KEY, Certainty.CERTAIN)


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
            assert found[0].certainty is Certainty.LIKELY
            sequencer.settle(database_alias())
            assert cause_of(row.pk) is Cause.NOBODY_SUBSCRIBED
        finally:
            upkeep.remove(database_alias())


@pytest.mark.parametrize(
    ("heard", "expected"),
    [([], Cause.NOBODY_SUBSCRIBED), ([["numbers", "name-a", None, 0, ""]], Cause.SENT)],
)
def test_a_row_of_a_bulk_event(settings: Settings, heard: list[Any], expected: Cause) -> None:
    """The answer says that its groups got a resync, and counts as sent."""
    settings.DECLBIND = {"BULK_LIMIT": 2}
    with override_bindings(NUMBERS):
        rows = [stored(name=name) for name in "aab"]
        other = stored(name="z")
        IntegerValue.objects.exclude(pk=other.pk).update(value=77)
        last_event()
        if heard:
            attend(make_user(), heard)
        found = ask(rows[0].pk)
        assert [answer.cause for answer in found.answers][:2] == [Cause.BULK_RESYNC, expected]
        assert {answer.certainty for answer in found.answers} == {Certainty.LIKELY}
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


def test_a_row_without_events_but_a_bulk_event(settings: Settings) -> None:
    """This covers a row that such a call created, and one that it deleted."""
    settings.DECLBIND = {"BULK_LIMIT": 2}
    with override_bindings(NUMBERS):
        rows = IntegerValue.objects.bulk_create([IntegerValue(name="a", value=number) for number in range(3)])
        assert cause_of(rows[0].pk) is Cause.BULK_RESYNC
        IntegerValue.objects.get(pk=rows[0].pk).save()
        assert cause_of(rows[0].pk) is not Cause.BULK_RESYNC
        IntegerValue.objects.all().delete()
        assert cause_of(rows[0].pk) is Cause.BULK_RESYNC


def test_a_resync_of_every_group_concerns_every_subscriber(settings: Settings) -> None:
    """If the written rows are unknown, all subscribers get a resync, and the answer says so."""
    with override_bindings(NUMBERS):
        row = stored()
        last_event()
        declare_lost(IntegerValue)
        run("UPDATE example_integervalue SET value = 5 WHERE id = %s", row.pk)
        offset = last_offset()
        user = make_user()
        attend(user, [["numbers", "name-other", None, offset - 1, ""]])
        found = ask(row.pk, user=user.username).answers
    assert [answer.cause for answer in found][:2] == [Cause.BULK_RESYNC, Cause.SENT]
    assert "every group of the stream" in found[0].text


def test_a_time_at_which_nothing_was_committed() -> None:
    """The row equals its last event, so any later attempt changed nothing."""
    with override_bindings(NUMBERS):
        row = stored()
        Event.objects.update(created_at=timezone.now() - timedelta(minutes=30))
        assert cause_of(row.pk, at=timezone.now()) is Cause.ROLLED_BACK
        Head.objects.update(min_seq=2, trimmed_until=timezone.now() - timedelta(hours=1))
        answer = ask(row.pk, at=timezone.now() - timedelta(hours=2)).answers[0]
        assert (answer.cause, answer.certainty) == (Cause.EXPIRED, Certainty.CERTAIN)


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


def refuse(row_pk: object, **values: Any) -> None:
    Traffic.objects.create(
        **{
            "at": timezone.now(), "kind": Traffic.REFUSED, "connection": "c1", "username": "ann", "user_pk": "5",
            "stream": "numbers", "action": "update", "object_pk": str(row_pk), "outcome": "denied",
            "message": "Not allowed.", **values,
        }
    )  # fmt: skip


def test_a_refused_request() -> None:
    """It is certain if the connection is known, as on the live page, and leads to a try of the same request."""
    with override_bindings(NUMBERS):
        row = stored()
        user = make_user()
        refuse(row.pk, username=user.username, user_pk=str(user.pk))
        question = Question("numbers", str(row.pk), user.username, timezone.now(), connection="c1")
        found = explain(question, database_alias())
        [answer] = found.answers
        assert found.event is None
        assert (answer.cause, answer.certainty) == (Cause.WRITE_REFUSED, Certainty.CERTAIN)
        assert answer.text == f"The request of {user} to update the row was answered with denied: Not allowed."
        assert ("action", "update") in find_step(answer, question).query
        assert "--action update" in find_step(answer, question).command
        others = explain(replace(question, connection=""), database_alias()).answers
        refused = next(answer for answer in others if answer.cause is Cause.WRITE_REFUSED)
        assert refused.certainty is Certainty.LIKELY


@pytest.mark.parametrize(
    "values",
    [
        {"object_pk": "999"},
        {"connection": "c2"},
        {"at": timezone.now() - timedelta(minutes=5)},
        {"action": "subscribe"},
        {"kind": Traffic.REQUEST},
    ],
)
def test_another_refusal_explains_nothing(values: dict[str, Any]) -> None:
    """That of another row, connection, time or kind of request."""
    with override_bindings(NUMBERS):
        row = stored()
        Event.objects.all().delete()
        refuse(row.pk, **values)
        question = Question("numbers", str(row.pk), "", timezone.now(), connection="c1")
        causes = {answer.cause for answer in explain(question, database_alias()).answers}
        assert Cause.WRITE_REFUSED not in causes


def test_a_row_whose_group_field_is_null() -> None:
    """It is in no group, and the answer names the field."""
    spread = {"stream": "numbers", "model": "zoo.Sample", "fields": ["count"], "groups": ["count-{count}"]}
    with override_bindings(spread):
        answer = ask(Sample.objects.create().pk).answers[0]
    assert answer.cause is Cause.NO_GROUP
    assert "count" in answer.text


def test_every_cause_has_a_meaning() -> None:
    """Each meaning is a whole sentence, and each is different."""
    titles = [cause.value.title for cause in Cause]
    assert all(title.endswith(".") for title in titles)
    assert len(set(titles)) == len(titles)
