"""The writes that a binding in force does not capture, and the state of its triggers, for its page."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.safestring import SafeString

from admin_ui.common.phrases import mark_code
from declbind.console import unseen
from declbind.outbound.triggers.upkeep import TableState
from declbind.registry import database_alias, get_registry


@dataclass(frozen=True)
class Blindness:
    """One kind of write that is not captured, as a page shows it."""

    text: str
    action: SafeString
    is_fault: bool


@dataclass(frozen=True)
class Sight:
    """The kinds of write that a binding does not capture, and the triggers of its tables."""

    gaps: tuple[Blindness, ...] = ()
    tables: tuple[TableState, ...] = ()

    @property
    def faults(self) -> list[Blindness]:
        """Those that it is meant to capture."""
        return [gap for gap in self.gaps if gap.is_fault]


def load_sight(stream: str, where: str) -> Sight | None:
    """Return what a binding does not capture; ``None`` if it is not in force or sends nothing.

    ``where`` is the place of its definition, or "database". Makes queries only for a binding that wants triggers.
    """
    registry, using = get_registry(), database_alias()
    binding = registry.by_stream.get(stream)
    entry = registry.entry(stream)
    if binding is None or entry is None or where not in (entry.where, entry.source) or not binding.spec().outbound:
        return None
    known = unseen.Known.load(using, [binding])
    tables = known.states_of(binding)
    gaps = unseen.find_gaps(binding, using, known)
    return Sight(tuple(Blindness(gap.text, mark_code(gap.action), gap.is_fault) for gap in gaps), tuple(tables))
