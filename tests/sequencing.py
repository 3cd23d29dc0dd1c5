"""Writers, relays and readers in processes of their own, and the check of the order that the readers saw."""

import json
import multiprocessing
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from unittest.mock import patch

from django.core.management import call_command
from django.db import DatabaseError, connection, connections, transaction

from declbind.models import BindingRecord, Event, Head
from declbind.outbound import entries, history, log, sequencer
from tests.servers import ROOT
from tests.zoo.models import Sample

USING = "default"
PATIENCE = 20.0
ROWS = 40
WRITERS = 8
RELAYS = 3


def check_order(committed, seen):
    """Check that what a reader saw, as [offset, id, pk, version], was committed, once each and in order.

    An event without a row has no pk, but takes an offset.
    """
    offsets = [offset for offset, *_ in seen]
    assert offsets == list(range(1, len(seen) + 1)), "the offsets have gaps, or turn back"
    ids = [id_ for _, id_, *_ in seen]
    assert len(set(ids)) == len(ids), "an event came twice"
    rows = [(pk, version) for _, _, pk, version in seen if pk is not None]
    assert sorted(rows) == sorted(map(tuple, committed)), "something was lost, or came from a roll-back"
    latest: dict[object, int] = {}
    for pk, version in rows:
        assert version > latest.get(pk, 0), f"row {pk} went back from {latest[pk]} to {version}"
        latest[pk] = version


class RolledBack(Exception):
    pass


def prepare():
    """Make the tables, some rows, and the binding that captures them."""
    call_command("migrate", run_syncdb=True, verbosity=0)
    Sample.objects.bulk_create([Sample(big=0) for _ in range(ROWS)])
    BindingRecord.objects.create(stream="samples", model="zoo.Sample", fields=["big"])


def write(number, seconds):
    """Raise versions of random rows in transactions, some of them slow, a third of them rolled back."""
    chance = random.Random(number)
    pks = list(Sample.objects.values_list("pk", flat=True))
    committed: list[tuple[int, int]] = []
    rolled_back = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        written = []
        try:
            with transaction.atomic():
                # All writers use one order, because rows locked crosswise would deadlock.
                for pk in sorted(chance.sample(pks, chance.randint(1, 3))):
                    row = Sample.objects.select_for_update().get(pk=pk)
                    row.big = (row.big or 0) + 1
                    row.save()
                    written.append((pk, row.big))
                if chance.random() < 0.3:
                    # Kept open on purpose: events with higher ids are committed meanwhile.
                    time.sleep(chance.uniform(0, 0.02))
                if chance.random() < 1 / 3:
                    raise RolledBack
        except RolledBack:
            rolled_back += 1
        else:
            committed += written
    return {"committed": committed, "rolled_back": rolled_back}


def relay(written):
    """Number events, a few at a time, until the writers are done and no event waits."""
    total = 0
    while True:
        is_last = written.is_set()
        count = sequencer.sequence(USING, limit=7)
        total += count
        if not count:
            if is_last:
                return total
            written.wait(0.002)


def follow(read, finished):
    """Read from a cursor until everything has arrived; return all events, in order."""
    seen: list[list[object]] = []
    cursor = 0
    while True:
        is_last = finished.is_set()
        found = read(cursor)
        if found:
            cursor = found[-1][0]
            seen += found
        elif is_last:
            return seen
        else:
            finished.wait(0.002)


def describe(offset, id_, kind, object_pk, data):
    is_row = kind == Event.ROW
    return [offset, id_, json.loads(object_pk) if is_row else None, json.loads(data)["big"] if is_row else None]


def read_log(cursor):
    return [describe(e.offset, e.id, e.kind, e.object_pk, e.data) for e in log.read(cursor, 100, USING)]


def read_by_id(cursor):
    """Read events in the order of ids: the broken variant."""
    rows = Event.objects.filter(id__gt=cursor).order_by("id")[:100]
    return [describe(row.id, row.id, row.kind, row.object_pk, row.data) for row in rows]


def run_all(jobs):
    """Start a process per job; return a function that waits for those of a name and returns their results."""
    context = multiprocessing.get_context("fork")
    connections.close_all()
    results = context.SimpleQueue()
    got: list[tuple[str, object]] = []

    def work(name, job, *args):
        results.put((name, job(*args)))
        connections.close_all()

    processes = [context.Process(target=work, args=job, daemon=True) for job in jobs]
    for process in processes:
        process.start()

    def wait_for(name):
        wanted = [job for job in jobs if job[0] == name]
        while len([result for result in got if result[0] == name]) < len(wanted):
            got.append(results.get())
        return [result for found, result in got if found == name]

    return wait_for


def soak(seconds):
    """Run writers, relays and two readers on one database."""
    prepare()
    context = multiprocessing.get_context("fork")
    written, finished = context.Event(), context.Event()
    jobs: list[tuple[object, ...]] = [("writer", write, number, float(seconds)) for number in range(WRITERS)]
    jobs += [("relay", relay, written)] * RELAYS
    jobs += [("reader", follow, read_log, finished), ("naive", follow, read_by_id, finished)]
    wait_for = run_all(jobs)
    writers = wait_for("writer")
    written.set()
    sequenced = wait_for("relay")
    finished.set()
    return {
        "committed": [row for writer in writers for row in writer["committed"]],
        "rolled_back": sum(writer["rolled_back"] for writer in writers),
        "sequenced": sequenced,
        "waiting": Event.objects.filter(seq__isnull=True).count(),
        "reader": wait_for("reader")[0],
        "naive": wait_for("naive")[0],
    }


def append(version):
    log.append([entries.Draft(stream="s", object_pk=str(version), data=json.dumps({"big": 1}))], USING)


def in_thread(work: Callable[[], None]) -> threading.Thread:
    """Run in a thread, with a connection of its own."""

    def run():
        try:
            work()
        finally:
            connection.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def commit_late():
    """Commit a transaction with a low id after one with a high id, while two readers follow."""
    call_command("migrate", run_syncdb=True, verbosity=0)
    opened, go_on = threading.Event(), threading.Event()

    def slow():
        with transaction.atomic():
            append(1)
            opened.set()
            go_on.wait(PATIENCE)

    thread = in_thread(slow)
    opened.wait(PATIENCE)
    append(2)
    sequencer.sequence(USING)
    by_id, by_log = read_by_id(0), read_log(0)
    go_on.set()
    thread.join(PATIENCE)
    sequencer.sequence(USING)
    return {
        "committed": [(1, 1), (2, 1)],
        "reader": by_log + read_log(by_log[-1][0]),
        "naive": by_id + read_by_id(by_id[-1][0]),
    }


def sequence_read_first(both_have_looked):
    """Number events that were read before taking the lock: the broken variant."""
    ids = list(Event.objects.filter(seq__isnull=True).order_by("id").values_list("id", flat=True))
    both_have_looked.wait(PATIENCE)
    with transaction.atomic():
        head = Head.objects.select_for_update().get(pk=1)
        for position, id_ in enumerate(ids, 1):
            Event.objects.filter(pk=id_).update(seq=head.seq + position)
        Head.objects.filter(pk=1).update(seq=head.seq + len(ids))


LOCK_WAITS = {
    "postgresql": "SELECT count(*) FROM pg_locks WHERE NOT granted",
    "mysql": "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'",
}


def number_when_the_other_waits(original):
    """Hold the head's lock until another relay waits for it, so that both certainly overlap."""

    def number_events(*args):
        deadline = time.monotonic() + PATIENCE
        with connection.cursor() as cursor:
            while time.monotonic() < deadline:
                cursor.execute(LOCK_WAITS[connection.vendor])
                if cursor.fetchone() != (0,):
                    break
                if not Event.objects.filter(seq__isnull=True).exists():
                    break  # the other has passed here already
                # InnoDB refreshes its list of transactions only if nobody has read it for 0.1 s.
                time.sleep(0.15)
        return original(*args)

    return number_events


def race_relays(order):
    """Let two relays compete for the same five events; ``faults`` are their exceptions."""
    call_command("migrate", run_syncdb=True, verbosity=0)
    history.ensure_head(USING)
    for version in range(1, 6):
        append(version)
    both_have_looked = threading.Barrier(2)
    faults = []

    def run():
        try:
            if order == "read first":
                sequence_read_first(both_have_looked)
            else:
                sequencer.sequence(USING)
        except DatabaseError as error:
            faults.append(str(error))

    with patch.object(sequencer, "number_events", number_when_the_other_waits(sequencer.number_events)):
        threads = [in_thread(run) for _ in range(2)]
        for thread in threads:
            thread.join(PATIENCE)
    return {
        "committed": [(version, 1) for version in range(1, 6)],
        "reader": read_log(0),
        "head": log.load_head(USING).offset,
        "faults": faults,
    }


PROGRAMS: dict[str, Callable[..., dict[str, object]]] = {
    "soak": soak,
    "commit_late": commit_late,
    "race_relays": race_relays,
}


def main():
    """Run the part of the program that the arguments name and print its result as JSON."""
    sys.stdout.write(json.dumps(PROGRAMS[sys.argv[1]](*sys.argv[2:])))


def run_program(database_url, *arguments, **variables):
    """Run a program of this module on a database, with these environment variables; return its outcome."""
    code = "import django; django.setup(); from tests import sequencing; sequencing.main()"
    environment = {
        **{key: value for key, value in os.environ.items() if key not in ("TEST_DATABASE", "CHANNEL_LAYER_URL")},
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DATABASE_URL": database_url,
        **variables,
    }
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)
