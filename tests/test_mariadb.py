"""Behavior of MySQL and MariaDB only: snapshots and current reads, lost transactions, packets, no triggers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from unittest.mock import patch

import pytest
from asgiref.sync import sync_to_async
from django.core.checks import Warning as CheckWarning
from django.core.management import call_command
from django.db import OperationalError, connection, connections, transaction

from declbind import checks
from declbind.console.unseen import Gap, find_gaps
from declbind.inbound import writes
from declbind.models import BindingRecord, Connection, Event, Head
from declbind.outbound import entries, history, locks, log, sequencer
from declbind.registry import get_registry
from declbind.testing import Client, capture_events, override_bindings
from tests.zoo.clients import connect
from tests.zoo.columns import Column
from tests.zoo.models import Food, Keeper

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "mysql", reason="other databases have no such ways"),
]
KEEPERS: dict[str, object] = {"stream": "keepers", "model": "zoo.Keeper", "fields": ["name"]}
BY_RETIREMENT = {**KEEPERS, "groups": ["retired-{retired}"]}
PATIENCE = 20.0
DEADLOCK = OperationalError(1213, "Deadlock found when trying to get lock; try restarting transaction")


def elsewhere(work: Callable[[], object]) -> object:
    """Run in another thread, with a connection of its own, and return the result."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(work())
        finally:
            connections.close_all()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert results, "the other connection is still waiting, or it failed"
    return results[0]


@contextlib.contextmanager
def isolated(level: str) -> Iterator[None]:
    """Use an isolation level for the transactions of the block."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET SESSION TRANSACTION ISOLATION LEVEL {level}")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")


def append(number: int) -> None:
    log.append([entries.Draft(stream="s", object_pk=str(number))], "default")


def numbers() -> list[tuple[str, int | None]]:
    return list(Event.objects.filter(stream="s").order_by("id").values_list("object_pk", "seq"))


LEVELS = pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ"])


# The sequencer ------------------------------------------------------------------------------------------------------


@LEVELS
def test_numbering_does_not_wait_for_writers(level):
    """An uncommitted event blocks neither those before it nor those after it."""
    append(1)
    with isolated(level), transaction.atomic():
        append(2)
        elsewhere(lambda: append(3))
        assert elsewhere(lambda: sequencer.sequence("default")) == 2
    sequencer.sequence("default")
    first = numbers()[0][1]
    assert first is not None
    assert numbers() == [("1", first), ("2", first + 2), ("3", first + 1)]


@LEVELS
def test_writers_do_not_wait_for_numbering(level):
    """While numbers are assigned, other transactions append events."""
    history.ensure_head("default")
    for number in range(1, 4):
        append(number)

    def append_elsewhere(*args):
        count = number_events(*args)
        elsewhere(lambda: append(4))
        return count

    number_events = sequencer.number_events
    with isolated(level), patch.object(sequencer, "number_events", append_elsewhere):
        assert sequencer.sequence("default") == 3
    assert sequencer.sequence("default") == 1


def renumber_in_an_old_snapshot() -> None:
    append(1)
    with isolated("REPEATABLE READ"), transaction.atomic():
        assert numbers()[-1][1] is None  # the snapshot begins here
        elsewhere(lambda: sequencer.sequence("default"))
        assert sequencer.sequence("default") == 0
    assert Head.objects.get(pk=1).seq == numbers()[-1][1]


def test_an_old_snapshot_gives_no_second_number():
    """A transaction whose snapshot has the event without a number does not number it again."""
    renumber_in_an_old_snapshot()


def test_trusting_an_old_snapshot_would_be_caught(monkeypatch):
    """Control: the sequencer numbers the events in its snapshot."""

    def store(pairs, other):
        with other.cursor() as cursor:
            cursor.executemany("UPDATE declbind_event SET seq = %s WHERE id = %s", pairs)

    monkeypatch.setattr(sequencer, "_store_numbers", store)
    with pytest.raises(AssertionError):
        renumber_in_an_old_snapshot()


def test_reads_of_the_log_use_its_indexes():
    """No statement that processes repeat regularly reads the whole log."""
    for number in range(300):
        append(number)
    sequencer.sequence("default")
    looks = [
        (log._look_statement(True), [0, 10]),
        ("SELECT EXISTS (SELECT 1 FROM declbind_event WHERE seq IS NULL)", []),
        ("SELECT EXISTS (SELECT 1 FROM declbind_event WHERE kind = 'mark')", []),
        (f"SELECT id FROM declbind_event WHERE seq IS NULL AND id < {history.FIRST_MARK} ORDER BY id LIMIT 10", []),
    ]
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE TABLE declbind_event")
        for statement, params in looks:
            cursor.execute(f"EXPLAIN {statement}", params)
            names = [column[0] for column in cursor.description]
            plans = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
            scans = [plan for plan in plans if plan["table"] == "declbind_event" and plan["type"] in ("ALL", "index")]
            assert scans == [], statement


def test_a_restored_table_gets_a_new_epoch():
    """The tables were recreated, so earlier offsets are meaningless."""
    history.check_incarnation("default")
    before = Head.objects.get(pk=1)
    assert before.incarnation
    history.check_incarnation("default")
    assert Head.objects.get(pk=1).epoch == before.epoch
    Head.objects.update(incarnation=f"{before.incarnation} of yesterday")
    history.check_incarnation("default")
    assert Head.objects.get(pk=1).epoch != before.epoch


# Capture ------------------------------------------------------------------------------------------------------------


def update_what_the_snapshot_hides() -> None:
    level = isolated("REPEATABLE READ")
    with override_bindings(BY_RETIREMENT), capture_events() as events, level, transaction.atomic():
        assert not Keeper.objects.filter(name="late").exists()  # the snapshot begins here
        pk = elsewhere(lambda: Keeper.objects.create(name="late").pk)
        assert Keeper.objects.filter(name="late").update(retired=True) == 1
    moved = [event.changes for event in events if event.pk == pk and len(event.changes) > 1]
    assert moved == [[("retired-false", "delete"), ("retired-true", "create")]]


def test_an_update_reports_rows_outside_its_snapshot():
    """The update matches the rows as they are now, and its events report the same rows."""
    update_what_the_snapshot_hides()


def test_reading_keys_from_the_snapshot_would_be_caught(monkeypatch):
    """Control: the keys are read by a subquery, from the snapshot."""
    monkeypatch.setattr("declbind.outbound.updates.keys_of", lambda rows, using: rows.order_by().values("pk"))
    with pytest.raises(AssertionError):
        update_what_the_snapshot_hides()


def lose_the_transaction(*args: object, **kwargs: object) -> object:
    """Imitate a deadlock: the server rolls back, and one statement gets the error."""
    with connection.cursor() as cursor:
        cursor.execute("ROLLBACK")
    raise DEADLOCK


def write_in_a_transaction_that_is_lost() -> None:
    def write() -> None:
        with transaction.atomic():
            Food.objects.create(name="hay")
            Keeper.objects.update(retired=True)

    with pytest.raises(OperationalError, match="1213"):
        write()
    assert not Food.objects.exists()
    assert not Keeper.objects.filter(retired=True).exists()


@pytest.mark.parametrize("place", ["declbind.outbound.written_rows.read_rows", "declbind.outbound.drafts._group_names"])
def test_a_deadlock_of_capture_reaches_the_writer(place):
    """Neither write is stored, and the writer gets the error, so that it can retry."""
    Keeper.objects.create(name="Ann")
    with override_bindings(BY_RETIREMENT), patch(place, lose_the_transaction):
        write_in_a_transaction_that_is_lost()


def test_swallowing_a_deadlock_would_be_caught(monkeypatch):
    """Control: the second write is stored without the first."""
    Keeper.objects.create(name="Ann")
    monkeypatch.setattr("declbind.outbound.drafts.ends_transaction", lambda error, using: False)
    with (
        override_bindings(BY_RETIREMENT),
        patch("declbind.outbound.written_rows.read_rows", lose_the_transaction),
        pytest.raises(BaseException, match=r"DID NOT RAISE"),
    ):
        write_in_a_transaction_that_is_lost()


def test_other_errors_do_not_end_the_transaction():
    """A missing table is a fault of a binding, and does not affect the writer."""
    assert not locks.ends_transaction(OperationalError(1146, "Table 'x' doesn't exist"), "default")
    assert not locks.ends_transaction(ValueError(1213), "default")


def test_many_large_events_are_inserted_in_several_statements():
    """One short statement of the host may write many rows, each with an event of its own."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@max_allowed_packet")
        (limit,) = cursor.fetchone()
    text = "x" * 900_000
    Column.objects.bulk_create([Column(text=text, integer=0) for _ in range(3)])
    for _ in range(3):  # 24 rows, none of them sent to the server in one statement
        Column.objects.bulk_create([Column(text=row.text, integer=0) for row in Column.objects.all()[:7]])
    assert Column.objects.count() * len(text) > limit
    binding = {"stream": "columns", "model": "zoo.Column", "fields": ["text", "integer"]}
    with override_bindings(binding), capture_events() as events:
        count = Column.objects.update(integer=1)
    assert len(events) == count == Column.objects.count()


def test_an_event_that_is_too_large_for_a_statement_is_a_resync():
    """JSON is longer than the text in it. The write is stored nevertheless."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@max_allowed_packet")
        (limit,) = cursor.fetchone()
    row = Column.objects.create(text="\\" * (limit // 2 - 200_000))
    binding = {"stream": "columns", "model": "zoo.Column", "fields": ["text", "integer"]}
    with override_bindings(binding), capture_events() as events:
        Column.objects.filter(pk=row.pk).update(integer=1)
    assert [(event.kind, event.changes) for event in events] == [("bulk", [("columns", "resync")])]
    assert Column.objects.get().integer == 1


def test_a_value_that_the_database_refuses_is_answered_as_invalid():
    """MariaDB accepts valid UUIDs only, and raises an operational error for others."""
    client = connect({"stream": "columns", "model": "zoo.Column", "fields": ["uuid"], "permissions": {"create": True}})
    error = client.refused("create", data={"uuid": "85750621-02fb-cd4f-357f-bc5af71a1bfc"})
    assert error.code == "invalid"


def test_a_trial_restores_the_lock_timeout_of_the_session():
    """The trial waits two seconds at most for a lock; later statements wait as long as before."""
    with connection.cursor() as cursor, writes._limited_waiting("default"):
        cursor.execute("SELECT @@innodb_lock_wait_timeout")
        assert cursor.fetchone() == (2,)
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@innodb_lock_wait_timeout = @@global.innodb_lock_wait_timeout")
        assert cursor.fetchone() == (1,)


# Operators ----------------------------------------------------------------------------------------------------------


async def test_connections_are_listed():
    """The row of a connection is inserted, and is updated when it subscribes."""
    open_binding = {**KEEPERS, "permissions": {"view": True}}
    with override_bindings(open_binding):
        async with Client() as client:
            await client.request("keepers", "subscribe")

            def wait_for_a_subscription():
                while not (row := Connection.objects.exclude(subscriptions="[]").first()):
                    threading.Event().wait(0.05)
                return json.loads(row.subscriptions)

            found = await asyncio.wait_for(sync_to_async(wait_for_a_subscription)(), PATIENCE)
            assert found[0][:2] == ["keepers", "keepers"]


def load_gaps() -> list[Gap]:
    return find_gaps(get_registry().by_stream["keepers"], "default")


def test_triggers_are_reported_as_unavailable():
    """The hooks report the writes of a record with triggers, and its page says what is not captured and what to do."""
    with override_bindings({**KEEPERS, "capture": "triggers"}):
        with capture_events() as events:
            Keeper.objects.create(name="Ann")
        assert [event.changes for event in events] == [[("keepers", "create")]]
        [gap] = [gap for gap in load_gaps() if gap.is_fault]
        assert gap.text == "Raw SQL and other programs: there are no triggers for MariaDB."
        assert "triggers" not in gap.action
    with override_bindings(KEEPERS):
        assert not [gap for gap in load_gaps() if "triggers" in gap.action]


def test_a_system_check_warns_of_a_record_with_triggers():
    """The check reports a record once, whatever the number of its tables."""
    record = BindingRecord.objects.create(**KEEPERS, capture="triggers")
    text = "Raw SQL and other programs are not captured for 'keepers': declbind has no triggers for MariaDB."
    hint = 'Set "capture" to "orm", and announce such rows with declbind.touch(queryset).'
    assert checks.check_triggers(databases=["default"]) == [CheckWarning(text, hint=hint, id="declbind.W007")]
    record.capture = "orm"
    record.save()
    assert checks.check_triggers(databases=["default"]) == []


def test_django_checks_find_no_problem(capsys):
    """No index and no constraint of declbind is left out."""
    call_command("check", "--database", "default", "--fail-level", "WARNING", "--tag", "models")
    call_command("check", "declbind", "--database", "default", "--fail-level", "WARNING", "--tag", "models")
