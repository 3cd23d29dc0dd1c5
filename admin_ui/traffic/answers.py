"""The content of a live page's update, polled or pushed: the same rows, by the same cursor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.template.loader import render_to_string

from admin_ui.common.screen import RecordAdmin
from admin_ui.traffic import window
from admin_ui.traffic.deliveries import load_recent
from admin_ui.traffic.links import Links
from admin_ui.traffic.rates import load_rates
from admin_ui.traffic.rows import Row
from admin_ui.traffic.wanted import Wanted
from declbind.registry import database_alias

#: The number of rows that are remembered, because rows that may have been late are read more than once.
MAX_RETURNED = 1_000


class Answers:
    """The updates for one page."""

    def __init__(self, model_admin: RecordAdmin, wanted: Wanted) -> None:
        self.wanted = wanted
        self.links = Links(model_admin)
        self._returned: dict[str, None] = {}

    def rows(self, cursor: window.Cursor, *, whole: bool = False, bare: bool = False) -> dict[str, object]:
        """Return the rows after the cursor, oldest first; ``bare`` only counts them, for a paused page.

        Traffic that was returned recently is left out.
        """
        page = window.load_page(self.wanted, cursor, whole=whole)
        fresh = [row for row in reversed(page.rows) if row.key not in self._returned]
        # Events are not left out, because they are sent again when they get their number.
        self._returned.update((row.key, None) for row in fresh if row.key.startswith("t"))
        for key in list(self._returned)[:-MAX_RETURNED]:
            del self._returned[key]
        return {
            "rows": [] if bare else [{"key": row.key, "html": self._html(row)} for row in fresh],
            "cursor": str(page.cursor),
            "count": page.count,
            "skipped": page.skipped,
            "every": page.every,
            "reset": page.is_reset,
        }

    def extras(self) -> dict[str, object]:
        """Return what changes without a new row: the recipients of the newest events, and the charts."""
        recent = load_recent(database_alias())
        rates = load_rates()
        known: Mapping[int, Any] = recent.found
        return {
            "got": {
                offset: [sum(part[1] for part in parts), max(part[2] for part in parts)]
                for offset, parts in known.items()
            },
            # Events in this range that are not listed went to nobody. The bounds are in milliseconds, as in scripts.
            "known": [int(1000 * at) for at in recent.known] if recent.known else None,
            "partial": bool(recent.partial),
            "charts": rates.draw(),
            "tables": rates.tables(),
        }

    def _html(self, row: Row) -> str:
        return render_to_string("declbind_admin/live_row.html", {"row": row, "links": self.links.of(row)})
