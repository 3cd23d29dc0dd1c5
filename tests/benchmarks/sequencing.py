"""Measurement of how many events a second the sequencer numbers on PostgreSQL.

As a program (`python -m tests.benchmarks.sequencing`), driven by lines of JSON: `{"events": n}` appends n events and
numbers them. It answers with the seconds that the numbering took and the number of faults.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from typing import Any

from . import contenders
from .arena import Arena
from .report import Figure, Goal, Section, Tally

#: The events of one transaction of the backlog.
TRANSACTION = 100


def measure(arena: Arena, events: int, times: int) -> Section:
    section = Section(f"Sequencing on PostgreSQL: a backlog of {events:,} events, by one relay")
    with arena.program("sequencing", contenders.DECLBIND, database="postgres") as program:
        answers = [program.ask(events=events) for _ in range(times + 1)][1:]
    numbered = sum(answer["numbered"] for answer in answers)
    lost = sum(answer["faults"] for answer in answers) + abs(times * events - numbered)
    tally = Tally(numbered, times * events, lost)
    speed = Figure(statistics.median(answer["numbered"] / answer["seconds"] for answer in answers), tally.counts)
    section.add("events numbered per second", {contenders.DECLBIND: speed})
    section.tally({contenders.DECLBIND: tally})
    section.goals = [Goal("events numbered per second", speed, at_least=10_000)]
    return section


def number(events: int) -> dict[str, Any]:
    """Append events, then number them. A fault is an event without a number, or a gap in the numbers."""
    from django.db import connection, transaction

    from declbind.models import Event
    from declbind.outbound import entries, log, relay

    before = log.load_head("default").offset
    draft = entries.Draft(
        stream="price",
        model="benchmarks.price",
        object_pk="1",
        changes=(("price", "update"),),
        data='{"value":100.125,"number":12345}',
    )
    for start in range(0, events, TRANSACTION):
        with transaction.atomic():
            log.append([draft] * min(TRANSACTION, events - start), "default")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE declbind_event")
    started = time.perf_counter()
    relay.run_once("default")
    seconds = time.perf_counter() - started
    after = log.load_head("default").offset
    found = set(Event.objects.filter(seq__gt=before).values_list("seq", flat=True))
    faults = len(found ^ set(range(before + 1, before + events + 1))) + Event.objects.filter(seq=None).count()
    return {"seconds": seconds, "numbered": after - before, "faults": faults}


def main() -> None:
    import django

    django.setup()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(number(**json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
