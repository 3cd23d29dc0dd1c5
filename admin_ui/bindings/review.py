"""A plan as the import page shows it: each change with its meaning, and the obstacles to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from admin_ui.common import documents
from declbind.console.consequences import Consequence
from declbind.console.history import Step
from declbind.console.output import format_line
from declbind.console.plan import Plan, PlannedChange

SHOWN_FAULTS = 100
#: The maximum length of a value on one line.
LINE_LENGTH = 60


@dataclass(frozen=True)
class Row:
    """One change of a plan on the page; ``denial`` says why this user may not make it, or is ""."""

    change: PlannedChange
    consequences: Sequence[Consequence]
    denial: str

    @property
    def action_text(self) -> str:
        """Return the action in words."""
        return {"add": _("add"), "change": _("change"), "remove": _("remove"), "keep": _("keep")}[self.change.action]

    @property
    def keys(self) -> list[tuple[str, str, str]]:
        """Return (key, old, new) as texts, "" for a missing value."""
        return [(key, _dump(old), _dump(new)) for key, old, new in self.change.differences]


def _dump(value: object) -> str:
    """Return a value as text, on one line if it is short."""
    if value is None:
        return ""
    line = format_line(value)
    return line if len(line) <= LINE_LENGTH else documents.dump(value)


def _printable(text: str) -> str:
    """Return a text that can be encoded: a faulty record may contain half a surrogate pair."""
    return text.encode(errors="backslashreplace").decode()


@dataclass(frozen=True)
class Move:
    """An edit that was made after a review."""

    step: Step

    @property
    def line(self) -> SafeString:
        """Return which binding was changed, by whom and at which version, as HTML."""
        known = {
            "created": _("{stream} was created by {author} at version {version}"),
            "changed": _("{stream} was changed by {author} at version {version}"),
            "removed": _("{stream} was removed by {author} at version {version}"),
        }
        unknown = {
            "created": _("{stream} was created by a command or a program at version {version}"),
            "changed": _("{stream} was changed by a command or a program at version {version}"),
            "removed": _("{stream} was removed by a command or a program at version {version}"),
        }
        step = self.step
        words = (known if step.author else unknown)[step.verb]
        stream = format_html("<b>{}</b>", step.stream)
        return format_html(words, stream=stream, author=step.author, version=step.version)


@dataclass(frozen=True)
class Review:
    """A plan, prepared for one user."""

    plan: Plan
    rows: Sequence[Row]

    @property
    def sound(self) -> list[PlannedChange]:
        """Return the changes of records without problems; other changes would differ once the problems are fixed."""
        faulty = {fault.stream for fault in self.plan.faults}
        return [change for change in self.plan.changes if change.stream not in faulty]

    @property
    def counts(self) -> str:
        """Return the number of each kind in words."""
        counts = Counter(change.action for change in self.sound)
        return _("{added} to add, {changed} to change, {removed} to remove, {kept} unchanged").format(
            added=counts["add"], changed=counts["change"], removed=counts["remove"], kept=counts["keep"]
        )

    @property
    def unchanged(self) -> list[str]:
        """Return the streams that are unchanged."""
        return [change.stream for change in self.sound if change.action == "keep"]

    @property
    def faults(self) -> list[tuple[str, str, str]]:
        """Return place, path and message of the first problems."""
        return [
            (fault.where, _printable(fault.problem.path), _printable(fault.problem.message))
            for fault in self.plan.faults[:SHOWN_FAULTS]
        ]

    @property
    def more_faults(self) -> int:
        """Return the number of problems that are not shown."""
        return max(0, len(self.plan.faults) - SHOWN_FAULTS)

    @property
    def is_denied(self) -> bool:
        """Return whether this user may not make some change."""
        return any(row.denial for row in self.rows)

    @property
    def widens(self) -> bool:
        """Return whether some change opens something."""
        return any(consequence.widens for row in self.rows for consequence in row.consequences)

    @property
    def may_apply(self) -> bool:
        """Return whether there is something to apply, and no obstacle."""
        return bool(self.plan.edits) and not self.plan.faults and not self.is_denied
