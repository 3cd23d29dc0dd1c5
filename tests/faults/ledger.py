"""Ledgers: the records of a writer's work, in lines that survive its death.

A line is a JSON list: `["intent", work, writes]` before a COMMIT, `["done", work]` after it,
`["undone", work, writes]` after a rollback of a transaction or of a savepoint. An intent without its done is work of
unknown outcome. Each line is written by one call and not synced: it must survive the process, not the machine.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .observations import Outcome, Work, Write


class Ledger:
    """The ledger of one writer, for appending."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def intend(self, work: str, writes: Sequence[Write]) -> None:
        """Record the writes of the next COMMIT."""
        self._note("intent", work, _pack(writes))

    def done(self, work: str) -> None:
        """Record that the COMMIT was acknowledged."""
        self._note("done", work)

    def undone(self, work: str, writes: Sequence[Write]) -> None:
        """Record writes that were rolled back."""
        if writes:
            self._note("undone", work, _pack(writes))

    def close(self) -> None:
        """Close the file; a dying writer need not."""
        os.close(self._file)

    def _note(self, *line: object) -> None:
        os.write(self._file, (json.dumps(line, separators=(",", ":")) + "\n").encode())


def _pack(writes: Iterable[Write]) -> list[list[object]]:
    return [[write.pk, write.action, write.stamp, write.base, write.before, write.after] for write in writes]


class LedgerReader:
    """A reader of the growing ledgers in a folder; incomplete lines are read later."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.committed = 0
        self._places: dict[Path, int] = {}
        self._intents: dict[str, tuple[Write, ...]] = {}
        self._works: list[Work] = []

    def read(self) -> int:
        """Read new lines; return how many writes are known to be committed."""
        for path in sorted(self.folder.glob("*.jsonl")):
            with path.open("rb") as file:
                file.seek(self._places.get(path, 0))
                text = file.read()
            whole = text.rfind(b"\n") + 1
            self._places[path] = self._places.get(path, 0) + whole
            for line in text[:whole].splitlines():
                self._take(json.loads(line))
        return self.committed

    def works(self) -> list[Work]:
        """Return all recorded work; work that was begun and not ended has an unknown outcome."""
        self.read()
        return [*self._works, *(Work(writes, Outcome.UNKNOWN) for writes in self._intents.values())]

    def _take(self, line: list[Any]) -> None:
        match line:
            case ["intent", work, writes]:
                self._intents[work] = _unpack(writes)
            case ["done", work]:
                writes = self._intents.pop(work)
                self.committed += len(writes)
                self._works.append(Work(writes, Outcome.COMMITTED))
            case ["undone", _, writes]:
                self._works.append(Work(_unpack(writes), Outcome.ROLLED_BACK))


def _unpack(writes: Iterable[list[Any]]) -> tuple[Write, ...]:
    return tuple(Write(*values) for values in writes)
