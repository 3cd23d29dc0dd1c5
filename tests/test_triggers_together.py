"""Concurrent writers by SQL, by the ORM and in bulk, with several relays: a reader ends with the stored rows."""

import contextlib
import json
import random
import threading

import pytest
from django.db import IntegrityError, connection, connections, transaction

from declbind.outbound import log, relay, sequencer
from declbind.outbound.triggers import marks, upkeep
from declbind.testing import override_bindings
from tests.zoo.models import Keeper

BINDING = {
    "stream": "keepers",
    "model": "zoo.Keeper",
    "fields": ["name", "retired"],
    "groups": ["retired-{retired}"],
    "capture": "triggers",
}
ROWS, WRITERS, WRITES = 6, 4, 40

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.needs_triggers]


def in_thread(work, errors):
    """Run work in a thread of its own; its exceptions are collected."""

    def run():
        try:
            work()
        except Exception as error:
            errors.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def write(seed):
    """Make random writes, each with a unique value, so that no two leave the same values."""
    chance = random.Random(seed)
    for number in range(WRITES):
        name, retired = f"{seed}-{number}", chance.random() < 0.5
        key = chance.randrange(1, ROWS + 1)
        rows = Keeper.objects.filter(pk=key)
        is_whole = chance.random() < 0.5
        # Two writers that save a row which a third has deleted both insert it.
        with contextlib.suppress(IntegrityError), transaction.atomic() if is_whole else contextlib.nullcontext():
            kind = chance.randrange(5)
            if kind == 0:
                Keeper(pk=key, name=name, retired=retired).save()
            elif kind == 1:
                rows.update(name=name, retired=retired)
            elif kind == 2:
                sql("UPDATE zoo_keeper SET name = %s, retired = %s WHERE id = %s", name, retired, key)
            elif kind == 3:
                sql("UPDATE zoo_keeper SET name = %s WHERE id = %s", name, key)
                rows.update(retired=retired)
            else:
                sql("DELETE FROM zoo_keeper WHERE id = %s", key)
                Keeper.objects.bulk_create([Keeper(pk=key, name=name, retired=retired)], ignore_conflicts=True)


def sql(statement, *params):
    with connection.cursor() as cursor:
        cursor.execute(statement, params)


class Reader:
    """A reader of the log like a hub, with the rows of each group's subscriber."""

    def __init__(self):
        self.cursor = log.load_head("default").offset
        self.groups: dict[str, dict[str, object]] = {}
        self.lost: list[tuple[int, int]] = []

    def read(self):
        look = log.look(self.cursor, 100, "default")
        for event in look.events:
            if event.offset != self.cursor + 1:
                self.lost.append((self.cursor, event.offset))
            self.cursor = event.offset
            for group, action in event.changes:
                rows = self.groups.setdefault(group, {})
                if action == "delete":
                    rows.pop(event.object_pk, None)
                else:
                    assert action != "resync"
                    rows[event.object_pk] = json.loads(event.data)
        return bool(look.events)


def stored():
    """Return the stored rows, by group."""
    groups: dict[str, dict[str, object]] = {"retired-false": {}, "retired-true": {}}
    for row in Keeper.objects.all():
        groups[f"retired-{str(row.retired).lower()}"][str(row.pk)] = {"name": row.name, "retired": row.retired}
    return groups


def run_together():
    """Write in several threads, number in two more, and read; return the reader when everything has arrived."""
    errors: list[Exception] = []
    with override_bindings(BINDING):
        upkeep.install("default")
        try:
            for number in range(1, ROWS + 1):
                Keeper.objects.create(pk=number, name=f"row {number}")
            relay.run_once("default")
            reader = Reader()
            reader.groups = stored()
            writers = [in_thread(lambda seed=seed: write(seed), errors) for seed in range(WRITERS)]
            done = threading.Event()

            def number_events():
                while not done.is_set():
                    relay.run_once("default")

            relays = [in_thread(number_events, errors) for _ in range(2)]
            while any(writer.is_alive() for writer in writers):
                reader.read()
            done.set()
            for thread in (*writers, *relays):
                thread.join()
            relay.run_once("default")
            sequencer.settle("default")
            relay.run_once("default")
            while reader.read():
                pass
        finally:
            upkeep.remove("default")
    assert errors == []
    return reader


def test_a_reader_ends_with_the_stored_rows():
    """This holds for any writer and any order of commits, and no offset is left out."""
    reader = run_together()
    assert reader.lost == []
    assert {group: rows for group, rows in reader.groups.items() if rows} == {
        group: rows for group, rows in stored().items() if rows
    }


def test_marks_in_the_wrong_order_would_be_caught(monkeypatch):
    """Control: marks of one batch in the wrong order leave the reader with outdated rows."""
    original = marks.convert

    def convert(noted, using):
        return original(noted[::-1], using)

    monkeypatch.setattr(sequencer, "convert", convert)
    assert_caught()


def test_marks_treated_as_events_would_be_caught(monkeypatch):
    """Control: a process that reads or numbers past a mark loses it, or repeats later events."""
    for module in (sequencer, log):
        monkeypatch.setattr(module, "FIRST_MARK", "9223372036854775807")
    log._look_statement.cache_clear()
    try:
        assert_caught()
    finally:
        log._look_statement.cache_clear()


def assert_caught():
    """Fail unless one of a few runs ends with other rows than the stored ones."""
    for _ in range(5):
        reader = run_together()
        told = {group: rows for group, rows in reader.groups.items() if rows}
        if reader.lost or told != {group: rows for group, rows in stored().items() if rows}:
            return
        Keeper.objects.all().delete()
    pytest.fail("Five runs ended well.")
