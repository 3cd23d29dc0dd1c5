"""Links of a row of the live page; links to pages that this site does not have are ""."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

from django.urls import NoReverseMatch, reverse

from admin_ui.common import screen
from admin_ui.common.screen import RecordAdmin
from admin_ui.traffic.rows import Row
from declbind.models import Node


def find_page(model_admin: RecordAdmin, page: str) -> str:
    """Return a page's address, or "" if the site has no such page."""
    try:
        return screen.page_url(model_admin, page)
    except NoReverseMatch:
        return ""


def find_processes(model_admin: RecordAdmin) -> str:
    """Return the address of the list of processes."""
    found = find_page(model_admin, "processes")
    if found or not model_admin.admin_site.is_registered(Node):
        return found
    try:
        return reverse("admin:declbind_node_changelist", current_app=model_admin.admin_site.name)
    except NoReverseMatch:
        return ""


@dataclass(frozen=True)
class RowLinks:
    """The links of one row."""

    open: str
    like: str
    row: str
    user: str
    try_it: str
    why: str
    #: The number of equal rows that are hidden behind this one; -1 for a row that is hidden itself.
    more: int = 0


class Links:
    """The links of rows; each page is looked up once."""

    def __init__(self, model_admin: RecordAdmin) -> None:
        self._live = screen.page_url(model_admin, "live")
        self._row = screen.page_url(model_admin, "live_row", "KEY").replace("KEY", "{}")
        self._try, self._why = find_page(model_admin, "try"), find_page(model_admin, "why")

    def of(self, row: Row) -> RowLinks:
        """Return the links of a row."""
        action = row.action or (row.changes[0][1] if row.changes else "")
        # The rows of a bulk write are not known.
        may_ask = row.stream and row.kind != "control" and not row.bulk_text
        return RowLinks(
            open=self._row.format(row.key),
            like=self._to(
                self._live, stream=row.stream, action=action, outcome="" if row.outcome == "ok" else row.outcome
            ),
            row=self._to(self._live, stream=row.stream, row=row.pk) if row.pk else "",
            user=self._to(self._live, user=row.user) if row.user else "",
            try_it=self._to(self._try, stream=row.stream, row=row.pk, action=action) if may_ask else "",
            why=self._why_of(row),
        )

    def _why_of(self, row: Row) -> str:
        """Return the question about a row with all that is known of it; only an offset needs nothing else."""
        if not row.stream or row.kind == "control":
            return ""
        if row.offset is not None:
            return self._to(self._why, stream=row.stream, row=row.pk, user=row.user, offset=row.offset)
        at = row.at.isoformat(timespec="seconds")
        return self._to(self._why, stream=row.stream, row=row.pk, user=row.user, at=at, connection=row.connection)

    @staticmethod
    def _to(address: str, **query: object) -> str:
        given = {key: value for key, value in query.items() if value not in ("", None)}
        return f"{address}?{urlencode(given)}" if address else ""
