"""A process without an event loop that saves rows as an application would.

Driven by lines of JSON on standard input, one line of answer each (times are seconds of `time.monotonic()`, which
all processes of a machine share):
- `{"do": "burst", "saves": n}` saves n times, one right after the other;
- `{"do": "paced", "seconds": s, "window": w, "clients": c, "together": t}` saves for s seconds, t in a transaction, and
  never runs more than w saves ahead of what the c clients have received;
- `{"do": "steady", "per_second": r, "seconds": s}` saves at a rate and answers with the moment of each commit;
- `{"do": "time", "saves": n, "atomic": bool}` answers with the seconds of each save, in autocommit or all in one
  transaction, and with the seconds of the whole, which include the commit and deferred work after it.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from functools import partial
from itertools import count, cycle
from typing import Any

import django
from django.db import transaction

from .progress import Progress

ROWS = 20
#: A client that lost frames never catches up: after this time without progress the writer continues, and the loss
#: shows.
STALL_SECONDS = 2.0
Answer = dict[str, object]


class Writer:
    """The rows of one writer, saved in rotation."""

    def __init__(self, progress: Progress) -> None:
        from .models import Price

        self.progress = progress
        self.numbers: Iterator[int] = count(1)
        for row in range(Price.objects.count(), ROWS):
            Price.objects.create(symbol=f"SYM{row}")
        self.rows = cycle(Price.objects.order_by("pk")[:ROWS])

    def next_row(self) -> Any:
        row, number = next(self.rows), next(self.numbers)
        row.number, row.value, row.volume = number, 100 + number / 8, number * 10
        return row

    def burst(self, saves: int) -> Answer:
        started = time.monotonic()
        for _ in range(saves):
            self.next_row().save()
        return {"saves": saves, "started": started, "ended": time.monotonic()}

    def paced(self, seconds: float, window: int, clients: int, together: int) -> Answer:
        started = time.monotonic()
        saves = 0
        while time.monotonic() < started + seconds:
            self._wait_for((saves - window + together) * clients)
            with transaction.atomic():
                for _ in range(together):
                    self.next_row().save()
            saves += together
        return {"saves": saves, "started": started, "ended": time.monotonic()}

    def _wait_for(self, wanted: int) -> None:
        seen, changed_at = self.progress.value, time.monotonic()
        while seen < wanted and time.monotonic() < changed_at + STALL_SECONDS:
            time.sleep(0.0005)
            if self.progress.value != seen:
                seen, changed_at = self.progress.value, time.monotonic()

    def steady(self, per_second: float, seconds: float) -> Answer:
        commits: dict[int, float] = {}

        def stamp(number: int) -> None:
            commits[number] = time.monotonic()

        started = time.monotonic()
        for position in range(int(per_second * seconds)):
            time.sleep(max(0.0, started + position / per_second - time.monotonic()))
            row = self.next_row()
            with transaction.atomic():
                # First in line after the commit, before any work of the contender.
                transaction.on_commit(partial(stamp, row.number))
                row.save()
        return {"saves": len(commits), "started": started, "ended": time.monotonic(), "commits": commits}

    def time(self, saves: int, atomic: bool) -> Answer:
        started = time.perf_counter()
        with transaction.atomic() if atomic else contextlib.nullcontext():
            seconds = self._timed(saves)
        return {"seconds": seconds, "whole": time.perf_counter() - started}

    def _timed(self, saves: int) -> list[float]:
        seconds = []
        for _ in range(saves):
            row = self.next_row()
            started = time.perf_counter()
            row.save()
            seconds.append(time.perf_counter() - started)
        return seconds


def main() -> None:
    django.setup()
    writer = Writer(Progress(sys.argv[1]))
    for line in sys.stdin:
        command = json.loads(line)
        answer = getattr(writer, command.pop("do"))(**command)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
