"""The phrases of a trial."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from declbind.core.course import Check

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise as Text

OK, REFUSED, SKIPPED, NOTE = "ok", "refused", "skipped", "note"

#: The actions that can be tried, in an operator's words.
ACTIONS: Final[Mapping[str, Text]] = {
    "view": _("sees rows (subscribes)"),
    "create": _("creates a row"),
    "update": _("changes a row"),
    "delete": _("deletes a row"),
    "outbound": _("a row changes: what is sent"),
    "outbound-create": _("a row is created: what is sent"),
    "outbound-delete": _("a row is deleted: what is sent"),
}
#: What is said of groups and rows instead of a text that contains values.
WITHOUT_VALUES: Final[Mapping[Check, Text]] = {
    Check.GROUP: _("The params select a group."),
    Check.GROUPS: _("Not shown, because the names of the groups contain values of the row."),
    Check.ROW: _("The row is in the group."),
}
TITLES: Final[Mapping[Check, Text]] = {
    Check.BINDINGS: _("Bindings"),
    Check.BINDING: _("Binding found"),
    Check.REQUEST: _("Request readable"),
    Check.WHO: _("User"),
    Check.DIRECTION: _("Direction open"),
    Check.PERMISSION: _("Permission"),
    Check.FIELDS: _("Fields accepted"),
    Check.SCOPE: _("Own rows only"),
    Check.GROUP: _("Group"),
    Check.ROW: _("Row visible"),
    Check.VALUES: _("Values valid"),
    Check.STORE: _("Stored"),
    Check.INSIDE: _("Stays in scope"),
    Check.GROUPS: _("Groups before and after"),
    Check.FRAMES: _("Frames"),
    Check.SECRETS: _("Withheld secrets"),
    Check.CONNECTIONS: _("Connections that receive them"),
}
SIGNS: Final[Mapping[str, Text | str]] = {OK: _("ok"), REFUSED: _("REFUSED"), SKIPPED: "-", NOTE: _("note")}
#: The directions of a stream, for a step that passed and for one that was refused.
OPEN: Final[Mapping[str, Text]] = {
    "both": _("Open both ways."),
    "outbound": _("Open only to clients."),
    "inbound": _("Open only from clients."),
}
CLOSED: Final[Mapping[str, Text]] = {
    "both": _("The stream is open both ways."),
    "outbound": _("The stream is open only to clients."),
    "inbound": _("The stream is open only from clients."),
}
#: What is said of a step that passed, for those that need no values.
PASSED: Final[Mapping[Check, Text]] = {
    Check.REQUEST: _("The request can be read."),
    Check.ROW: _("The row exists for this user."),
    Check.VALUES: _("The values are valid."),
    Check.INSIDE: _("The row stays within what this stream covers."),
}


def hidden_group() -> str:
    """Return what replaces the name of a group that contains values of a row."""
    return gettext("(not shown)")
