"""The author and the program of an event's write. The author is a user of the site or of the database."""

from __future__ import annotations

from django.utils.translation import gettext

#: The first word of the origin of an event made by a database trigger; the name of the program may follow.
SQL = "SQL"


def is_sql(origin: str) -> bool:
    """Return whether a trigger made the event, so that the write was raw SQL or another program's."""
    return origin == SQL or origin.startswith(f"{SQL} ")


def describe_actor(actor: str, origin: str) -> str:
    """Return the author of the write, or "" if unknown."""
    return gettext("database user %(name)s") % {"name": actor} if actor and is_sql(origin) else actor


def describe_origin(origin: str) -> str:
    """Return the program that made the write, or "" if unknown."""
    program = origin.removeprefix(SQL).strip() if is_sql(origin) else ""
    return gettext("SQL, by %(program)s") % {"program": program} if program else origin.strip()


def describe_writer(actor: str, origin: str) -> str:
    """Return the author and the program on one line."""
    known = filter(None, (describe_actor(actor, origin), describe_origin(origin)))
    return ", ".join(known) or gettext("not known")
