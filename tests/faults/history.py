"""The chains of the rows: what was committed, and in which order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from .observations import Outcome, Rows, Work, Write


class LedgerError(Exception):
    """Raised if ledger and database contradict each other, so that nothing can be checked."""


class History:
    """The chains of the rows: what was committed, and in which order."""

    def __init__(self, initial: Rows, works: Iterable[Work], final: Rows) -> None:
        self.final = final
        self.chains: dict[int, list[Write]] = {}
        #: The position of a stamp in the chain of its row.
        self.places: dict[str, int] = {}
        #: The position of the delete that found a stamp.
        self.ends: dict[str, int] = {}
        self._undone: set[str] = set()
        begun = {
            pk: Write(pk, "create", str(row["stamp"]), None, None, int(row["room"])) for pk, row in initial.items()
        }
        possible: defaultdict[int, list[Write]] = defaultdict(list, {pk: [write] for pk, write in begun.items()})
        certain: list[Write] = []
        for work in works:
            if work.outcome is Outcome.ROLLED_BACK:
                self._undone.update(write.stamp for write in work.writes)
                continue
            for write in work.writes:
                possible[write.pk].append(write)
            if work.outcome is Outcome.COMMITTED:
                certain += work.writes
        for pk in possible.keys() | final.keys():
            self._link(pk, possible[pk])
        for write in certain:
            if self.place_of(write) is None:
                raise LedgerError(f"The write {write} was acknowledged, and row {write.pk} does not come from it.")
        self.committed = sum(map(len, self.chains.values())) - len(begun)

    def _link(self, pk: int, writes: list[Write]) -> None:
        by_stamp = {write.stamp: write for write in writes}
        if pk in self.final:
            stamp = str(self.final[pk]["stamp"])
            if stamp not in by_stamp:
                raise LedgerError(f"Row {pk} holds {stamp!r}, which no ledger knows.")
            ends = [by_stamp[stamp]]
        else:
            ends = [write for write in writes if write.action == "delete"]
        # Of several deletes with unknown outcome, the last one happened.
        chain = max((self._walk(end, by_stamp) for end in ends), key=len, default=[])
        self.chains[pk] = chain
        for place, write in enumerate(chain):
            self.places[write.stamp] = place
            if write.action == "delete" and write.base is not None:
                self.ends[write.base] = place

    @staticmethod
    def _walk(end: Write, by_stamp: Mapping[str, Write]) -> list[Write]:
        chain = [end]
        while chain[-1].base is not None:
            earlier = by_stamp.get(chain[-1].base)
            if earlier is None:
                raise LedgerError(f"The write {chain[-1]} found a stamp that no ledger knows.")
            chain.append(earlier)
        return chain[::-1]

    def place_of(self, write: Write) -> int | None:
        """Return the position of a write in its row's chain, or ``None`` if it is not there."""
        place = self.places.get(write.stamp)
        return place if place is not None and self.chains[write.pk][place] is write else None

    def explain(self, stamp: str | None) -> str:
        """Return the reason why a stamp is in no chain."""
        return "was rolled back" if stamp in self._undone else "was never committed"
