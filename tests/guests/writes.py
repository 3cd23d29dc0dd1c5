"""The writes that the database has recorded, from any writer, which must equal the captured ones."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db import connection

from .watching import Stream, Table, quote, run_plain


@dataclass(frozen=True)
class Writes:
    """How often each row of a stream was written, at most; ``others`` is the maximum for unlisted rows.

    ``certain`` are the rows that were written in any case.
    """

    counts: Mapping[Any, float]
    others: float
    certain: Collection[object]

    def most(self, key: object) -> float:
        return self.counts.get(key, self.others)


class Notes:
    """A record of each write, made by triggers of the test."""

    table = "noted_by_test"

    def __init__(self) -> None:
        self._triggers: list[tuple[str, str]] = []

    def install(self, streams: Iterable[Stream]) -> None:
        """Record each row that is written from now on."""
        key = "bigserial" if connection.vendor == "postgresql" else "integer"
        run_plain(f"CREATE TABLE {self.table} (id {key} PRIMARY KEY, tab text, key text)")
        for number, table in enumerate(sorted({table for stream in streams for table in stream.tables()}, key=str)):
            for event, row in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("UPDATE", "OLD"), ("DELETE", "OLD")):
                # An update that changes the key counts as a write of both rows.
                moved = f" WHEN (NEW.{quote(table.key)} IS DISTINCT FROM OLD.{quote(table.key)})"
                when = moved if (event, row) == ("UPDATE", "OLD") else ""
                self._install_one(f"noted_{number}_{event}_{row}".lower(), table, event, row, when)

    def remove(self) -> None:
        """Stop recording."""
        for name, table in self._triggers:
            run_plain(f"DROP TRIGGER {name}" + (f" ON {quote(table)}" if connection.vendor == "postgresql" else ""))
        run_plain(f"DROP TABLE {self.table}")
        if connection.vendor == "postgresql":
            for name, _ in self._triggers:
                run_plain(f"DROP FUNCTION {name}()")

    def _install_one(self, name: str, table: Table, event: str, row: str, when: str) -> None:
        self._triggers.append((name, table.name))
        note = (
            f"INSERT INTO {self.table} (tab, key) "
            f"VALUES ('{table.name}.{table.key}', CAST({row}.{quote(table.key)} AS text));"
        )
        trigger = f"CREATE TRIGGER {name} AFTER {event} ON {quote(table.name)} FOR EACH ROW{when}"
        if connection.vendor == "postgresql":
            body = f"BEGIN {note} RETURN NULL; END"
            run_plain(f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $${body}$$")
            run_plain(f"{trigger} EXECUTE FUNCTION {name}()")
        else:
            run_plain(f"{trigger.replace('IS DISTINCT FROM', 'IS NOT')} BEGIN {note} END")

    def last(self) -> int:
        [(last,)] = run_plain(f"SELECT coalesce(max(id), 0) FROM {self.table}")
        return int(last)

    def since(self, last: int, stream: Stream) -> Writes:
        """Return the writes of a stream's rows after a note."""
        tables = ", ".join(f"'{table.name}.{table.key}'" for table in stream.tables())
        found = run_plain(f"SELECT key FROM {self.table} WHERE id > {last} AND tab IN ({tables})")
        counts = Counter(stream.key_of(key) for (key,) in found)
        return Writes(counts, others=0, certain=counts)


class RowVersions:
    """A comparison of PostgreSQL's row versions, which leaves the project's tables unchanged.

    A row that was inserted and deleted in between leaves no trace, and the number of writes is not known.
    """

    def install(self, streams: Iterable[Stream]) -> None:
        """Store the tables of the streams."""
        self._tables = {table for stream in streams for table in stream.tables()}

    def remove(self) -> None:
        """Do nothing, because nothing was installed."""

    def last(self) -> dict[Table, dict[str, list[str]]]:
        """Return the versions of all rows, by table and key."""
        return {table: self._versions(table) for table in self._tables}

    def since(self, last: dict[Table, dict[str, list[str]]], stream: Stream) -> Writes:
        """Return the rows of a stream that have another version now."""
        counts: dict[Any, float] = {}
        certain: set[object] = set()
        # A row of a list may have been inserted and deleted as well.
        least = math.inf if stream.has_more_tables else 0
        for table in stream.tables():
            before, after = last[table], self._versions(table)
            for key in {**before, **after}:
                is_written = before.get(key) != after.get(key)
                found = stream.key_of(key)
                certain |= {found} if is_written else set()
                counts[found] = max(counts.get(found, least), math.inf if is_written else least)
        return Writes(counts, others=math.inf, certain=certain)

    def _versions(self, table: Table) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        columns = f"CAST({quote(table.key)} AS text), CAST(xmin AS text) || CAST(ctid AS text)"
        for key, version in run_plain(f"SELECT {columns} FROM {quote(table.name)} ORDER BY 2"):
            found.setdefault(key, []).append(version)
        return found
