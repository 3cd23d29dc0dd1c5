"""Descriptions of bulk events: the groups that had to take a snapshot, and why rows were not reported singly."""

from __future__ import annotations

from collections.abc import Collection

from django.utils.translation import gettext, ngettext

from declbind.conf import settings
from declbind.core.frames import EVERY_GROUP


def describe_bulk(groups: Collection[str], is_expired: bool = False) -> str:
    """Return a description of the groups of a bulk event, or of an event whose values have been removed."""
    if is_expired:
        return gettext(
            "its values were removed from the log, because they were older than the retention of its binding"
        )
    if EVERY_GROUP in groups:
        return gettext(
            "every group asked to take a snapshot: more rows were written at once than are sent one by one, or the "
            "written rows are not known"
        )
    return ngettext(
        "%(count)s group asked to take a snapshot: more than %(limit)s rows were written at once",
        "%(count)s groups asked to take a snapshot: more than %(limit)s rows were written at once",
        len(groups),
    ) % {"count": len(groups), "limit": limit()}


def limit() -> str:
    """Return the number of rows above which one call notifies only groups."""
    return f"{settings.BULK_LIMIT:,}".replace(",", "\N{NO-BREAK SPACE}")


def is_concerned(group: str, groups: Collection[str]) -> bool:
    """Return whether an event for ``groups`` concerns a group, including events for all groups."""
    return group in groups or EVERY_GROUP in groups


def list_groups(groups: Collection[str], shown: int = 6) -> str:
    """Return the names of groups; if there are many, only the first."""
    if EVERY_GROUP in groups:
        return gettext("every group")
    names = list(groups)
    listed = ", ".join(names[:shown])
    if len(names) <= shown:
        return listed
    return gettext("%(names)s and %(count)s more") % {"names": listed, "count": len(names) - shown}
