"""Timing of writes with and without the capture hooks, in one process, so that everything else is the same.

Driven by lines of JSON on standard input, one line of answer each:
- `{"do": "single", "work": name, "times": n, "hooks": bool}` does a kind of `SINGLE` n times in a transaction that is
  rolled back; answers with the seconds and the queries of each;
- `{"do": "bulk", "work": name, "hooks": bool}` does a kind of `BULK` once, to `ROWS` rows, with its commit;
- `{"do": "triggers", "installed": bool}` installs or removes the triggers.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Any

import django
from django.db import connection, transaction

ROWS = 1_000
#: Calls before the measured ones: installing or removing a hook empties the interpreter's caches of the class.
WARM_UP = 3
Answer = dict[str, object]
Call = Callable[[], object]


class Hooked:
    """One table of `ROWS` rows, written in the requested ways."""

    def __init__(self) -> None:
        from declbind.outbound.capture import HOOKS

        from .models import Price

        self.model = Price
        self._hooks = [(owner, name, getattr(owner, name)) for owner, name, _ in HOOKS]
        self._numbers = count(1)
        self._put(False)
        Price.objects.bulk_create(self._new(ROWS - Price.objects.count()))
        self._rows = list(Price.objects.order_by("pk"))
        self._clear()

    def single(self, work: str, times: int, hooks: bool) -> Answer:
        make: Iterator[Call] = getattr(self, f"_{work}")()
        self._put(hooks)
        with transaction.atomic():
            for _ in range(WARM_UP):
                next(make)()
            seconds = [_timed(next(make)) for _ in range(times)]
            queries = _counted(next(make))
            transaction.set_rollback(True)
        return {"seconds": seconds, "queries": queries}

    def _save(self) -> Iterator[Call]:
        for row in self._rows:
            row.value = float(next(self._numbers))
            yield row.save

    def _save_new(self) -> Iterator[Call]:
        while True:
            yield self._new(1)[0].save

    def _update(self) -> Iterator[Call]:
        for row in self._rows:
            yield partial(self._with(pk=row.pk).update, value=1.5)

    def _delete(self) -> Iterator[Call]:
        for row in self._rows:
            yield self._with(pk=row.pk).delete

    def _bulk_create(self) -> Iterator[Call]:
        while True:
            yield partial(self.model.objects.bulk_create, self._new(1))

    def _bulk_update(self) -> Iterator[Call]:
        for row in self._rows:
            yield partial(self.model.objects.bulk_update, [row], ["value"])

    def bulk(self, work: str, hooks: bool) -> Answer:
        self._put(False)
        # The returned functions must look up their methods later, or they would keep the method without the hook.
        call: Call = getattr(self, f"_many_{work}")()
        self._put(hooks)
        seconds = _timed(call)
        with connection.cursor() as cursor:
            cursor.execute("SELECT COUNT(*) FROM declbind_event")
            events = cursor.fetchone()[0]
        self._put(False)
        self._with(pk__gt=self._rows[-1].pk).delete()
        self._clear()
        return {"seconds": seconds, "events": events}

    def _many_update(self) -> Call:
        return lambda: self._with(volume=0).update(value=next(self._numbers))

    def _many_move(self) -> Call:
        return lambda: self._with(volume=0).update(symbol=f"SYM{next(self._numbers)}")

    def _many_bulk_update(self) -> Call:
        for row in self._rows:
            row.value = float(next(self._numbers))
        return lambda: self.model.objects.bulk_update(self._rows, ["value"])

    def _many_bulk_move(self) -> Call:
        for row in self._rows:
            row.symbol = f"SYM{next(self._numbers)}"
        return lambda: self.model.objects.bulk_update(self._rows, ["symbol"])

    def _many_bulk_create(self) -> Call:
        rows = self._new(ROWS)
        return lambda: self.model.objects.bulk_create(rows)

    def _many_delete(self) -> Call:
        self.model.objects.bulk_create(self._new(ROWS, volume=1))
        return lambda: self._with(volume=1).delete()

    def _many_sql(self) -> Call:
        return lambda: self._execute("UPDATE benchmarks_price SET value = value + 1")

    def triggers(self, installed: bool) -> Answer:
        from declbind.outbound.triggers import upkeep

        (upkeep.install if installed else upkeep.remove)("default")
        self._clear()
        return {"states": [state.state for state in upkeep.load_states("default")]}

    def _with(self, **lookups: Any) -> Any:
        return self.model.objects.filter(**lookups)

    def _new(self, number: int, **values: Any) -> list[Any]:
        return [self.model(symbol=f"SYM{next(self._numbers)}", **values) for _ in range(number)]

    def _put(self, hooks: bool) -> None:
        for owner, name, method in self._hooks:
            setattr(owner, name, method if hooks else method.__wrapped__)

    def _clear(self) -> None:
        # Truncated instead of deleted, because vacuuming would take longer than the measurement.
        self._execute("TRUNCATE declbind_event" if connection.vendor == "postgresql" else "DELETE FROM declbind_event")

    @staticmethod
    def _execute(statement: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(statement)


def _timed(call: Call) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _counted(call: Call) -> int:
    queries = 0

    def execute(carry_out, *arguments):
        nonlocal queries
        queries += 1
        return carry_out(*arguments)

    with connection.execute_wrapper(execute):
        call()
    return queries


def main() -> None:
    django.setup()
    hooked = Hooked()
    for line in sys.stdin:
        command = json.loads(line)
        answer = getattr(hooked, command.pop("do"))(**command)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
