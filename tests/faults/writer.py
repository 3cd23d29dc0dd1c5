"""A process that writes rows, at random from a seed, and keeps a ledger: `python -m tests.faults.writer --help`.

Most work is a transaction over a few rows that other writers change too; some of it is rolled back, wholly or to a
savepoint. A writer also saves rows of its own without a transaction. It runs until SIGTERM, and survives the loss of
the database, after which COMMITs of unknown outcome stay open in the ledger.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import django
from django.db import Error, connection, connections, transaction

from .ledger import Ledger
from .observations import Write

if TYPE_CHECKING:
    from .models import Item

#: Every new row starts in one of these rooms.
ROOMS = 5
#: The first rows, one a room, are written last of all: a client that has received this write has received all others.
SENTINELS = ROOMS
SHARED = 40
#: The ways to store a changed row, and how often each is used.
WAYS = ("save", "save some", "update", "bulk_update", "SQL")
WEIGHTS = (8, 3, 3, 3, 3)


class RolledBack(Exception):
    """Raised to end a transaction that is to leave no trace."""


class Writer:
    """A writer that does one piece of work after the other."""

    def __init__(self, name: str, seed: int, ledger: Ledger, *, plain: bool = False) -> None:
        from .models import Item

        self.items: Any = Item._default_manager
        self.name, self.ledger = name, ledger
        # Only triggers report SQL, and there are none for MariaDB.
        all_ways = tuple(way for way in WAYS if way != "SQL" or connection.vendor != "mysql")
        self.ways = ("save",) if plain else all_ways
        self.chance = random.Random(f"{seed} {name}")
        self.count = 0
        self.shared = list(self.items.filter(pk__gt=SENTINELS).order_by("pk").values_list("pk", flat=True)[:SHARED])
        #: Rows that this writer created: in transactions, and separately those for saves without one.
        self.made: list[int] = []
        self.private: list[Item] = []

    def name_one(self) -> str:
        """Return a name that no other write or work has."""
        self.count += 1
        return f"{self.name}.{self.count}"

    def step(self) -> int:
        """Do a piece of work; return how many writes it tried."""
        return self.save_alone() if self.private and self.chance.random() < 0.25 else self.transact()

    def save_alone(self) -> int:
        """Save a row that no other writer changes, without a transaction."""
        row = self.private.pop(self.chance.randrange(len(self.private)))
        write = self.change(row)
        work = self.name_one()
        self.ledger.intend(work, [write])
        row.save()
        self.ledger.done(work)
        # Not after a failure: the row's content is then unknown.
        self.private.append(row)
        return 1

    def transact(self) -> int:
        """Write a few rows in one transaction, and roll back some of it."""
        writes: list[Write] = []
        undone: list[Write] = []
        created: list[Item] = []
        work = self.name_one()
        known = self.chance.sample(self.shared, 2) + self.chance.sample(self.made, min(2, len(self.made)))
        # All writers use one order, because rows locked crosswise would deadlock.
        chosen = sorted(self.chance.sample(known, self.chance.randint(1, min(3, len(known)))))
        try:
            with transaction.atomic():
                for pk in chosen:
                    writes += self.write(pk)
                    if self.chance.random() < 0.1:
                        writes += self.write(pk)
                if self.chance.random() < 0.15:
                    undone += self.undo(chosen[-1])
                if self.chance.random() < 0.3:
                    created.append(self.create(writes))
                if self.chance.random() < 0.12:
                    raise RolledBack
                self.ledger.intend(work, writes)
        except RolledBack:
            self.ledger.undone(work, writes + undone)
            return len(writes)
        self.ledger.done(work)
        self.ledger.undone(work, undone)
        gone = {write.pk for write in writes if write.action == "delete"}
        self.made = [pk for pk in self.made if pk not in gone]
        for row in created:
            if len(self.private) < 10:
                self.private.append(row)
            else:
                self.made.append(row.pk)
        return len(writes)

    def undo(self, pk: int) -> list[Write]:
        """Write a row and a new one inside a savepoint that is rolled back."""
        undone: list[Write] = []
        try:
            with transaction.atomic():
                undone += self.write(pk)
                self.create(undone)
                raise RolledBack
        except RolledBack:
            return undone

    def write(self, pk: int) -> list[Write]:
        """Change or delete one row under a lock; a deleted row stays deleted."""
        row = self.items.select_for_update().filter(pk=pk).first()
        if row is None:
            return []
        if pk not in self.shared and self.chance.random() < 0.2:
            write = Write(pk, "delete", self.name_one(), row.stamp, row.room, None)
            row.delete()
            return [write]
        write = self.change(row)
        self.store(row)
        return [write]

    def store(self, row: Item) -> None:
        """Store a changed row in one of several ways: mostly by ``save``, sometimes bypassing the ORM."""
        values: dict[str, Any] = {"room": row.room, "stamp": row.stamp, "text": row.text}
        way = self.chance.choices(self.ways, WEIGHTS[: len(self.ways)])[0]
        if way == "save":
            row.save()
        elif way == "save some":
            row.save(update_fields=list(values))
        elif way == "update":
            self.items.filter(pk=row.pk).update(**values)
        elif way == "bulk_update":
            self.items.bulk_update([row], list(values))
        else:
            with connection.cursor() as cursor:
                cursor.execute(
                    "UPDATE faults_item SET room = %s, stamp = %s, text = %s WHERE id = %s", [*values.values(), row.pk]
                )

    def change(self, row: Item) -> Write:
        """Give a row a new stamp and text, and sometimes another room; the caller saves it."""
        before, base = row.room, row.stamp
        if self.chance.random() < 0.25:
            row.room = self.chance.randrange(ROOMS)
        row.stamp = self.name_one()
        row.text = f"text of {row.stamp}"
        return Write(row.pk, "update", row.stamp, base, before, row.room)

    def create(self, writes: list[Write]) -> Item:
        """Store a new row and record it."""
        stamp = self.name_one()
        row: Item = self.items.create(room=self.chance.randrange(ROOMS), stamp=stamp, text=f"text of {stamp}")
        writes.append(Write(row.pk, "create", stamp, None, None, row.room))
        return row

    def burst(self, size: int) -> None:
        """Write as many rows in one transaction."""
        writes: list[Write] = []
        work = self.name_one()
        with transaction.atomic():
            for _ in range(size // 10):
                self.create(writes)
            rows = list(self.items.filter(pk__in=[write.pk for write in writes]).order_by("pk"))
            while len(writes) < size:
                row = self.chance.choice(rows)
                write = self.change(row)
                row.save()
                writes.append(write)
            self.ledger.intend(work, writes)
        self.ledger.done(work)

    def hold(self, gate: int) -> None:
        """Write a few rows and leave the transaction open while another session holds an advisory lock."""
        writes: list[Write] = []
        work = self.name_one()
        with transaction.atomic(), connection.cursor() as cursor:
            for _ in range(ROOMS):
                self.create(writes)
            self.ledger.intend(work, writes)
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [gate])
        self.ledger.done(work)

    def close_the_book(self) -> None:
        """Write the last row of each room."""
        for row in self.items.filter(pk__lte=SENTINELS).order_by("pk"):
            base, row.stamp = row.stamp, self.name_one()
            work = self.name_one()
            self.ledger.intend(work, [Write(row.pk, "update", row.stamp, base, row.room, row.room)])
            row.save()
            self.ledger.done(work)


@contextlib.contextmanager
def stopped_by_sigterm() -> Iterator[threading.Event]:
    stop = threading.Event()
    # Not in the signal's handler: this thread may hold the lock inside the event.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=stop.set).start())
    yield stop


def go_on(writer: Writer, rate: float, stop: threading.Event) -> None:
    """Work at a rate of writes a second until stopped; the database may disappear and return."""
    due = time.monotonic()
    while not stop.is_set():
        try:
            due += writer.step() / rate
        except Error as error:
            sys.stderr.write(f"{error}\n")
            connections.close_all()
            stop.wait(0.1)
        # This limits the load; time without the database is not made up for.
        due = max(due, time.monotonic() - 0.5)
        if (early := due - time.monotonic()) > 0:
            stop.wait(early)


def build_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of the arguments that all kinds of writers have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--name", required=True)
    parser.add_argument("--ledger", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=200.0, help="writes a second")
    parser.add_argument(
        "--plain", action="store_true", help="store by save() alone, and by nothing that triggers tell of"
    )
    return parser


def main() -> None:
    """Read the arguments and write."""
    parser = build_parser(__doc__)
    parser.add_argument("--burst", type=int, default=0, help="so many writes in one transaction, and nothing else")
    parser.add_argument("--hold", type=int, help="one transaction that ends with this advisory lock, and nothing else")
    parser.add_argument("--sentinels", action="store_true", help="the last write of each room, and nothing else")
    options = parser.parse_args()
    django.setup()
    writer = Writer(options.name, options.seed, Ledger(options.ledger), plain=options.plain)
    with stopped_by_sigterm() as stop:
        if options.burst:
            writer.burst(options.burst)
        elif options.hold:
            writer.hold(options.hold)
        elif options.sentinels:
            writer.close_the_book()
        else:
            go_on(writer, options.rate, stop)


if __name__ == "__main__":
    main()
