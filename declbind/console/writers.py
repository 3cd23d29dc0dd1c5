"""Say who wrote what an event tells of, and by which program: a user of the site, or one of the database."""

from __future__ import annotations

#: What the origin of an event begins with that a database trigger has noted; the name of the program may follow.
SQL = "SQL"


def is_sql(origin: str) -> bool:
    """Return whether a trigger noted it: it was raw SQL, or another program."""
    return origin == SQL or origin.startswith(f"{SQL} ")


def describe_actor(actor: str, origin: str) -> str:
    """Return who wrote; "" where that is not known."""
    return f"database user {actor}" if actor and is_sql(origin) else actor


def describe_origin(origin: str) -> str:
    """Return by which program; "" where that is not known."""
    program = origin.removeprefix(SQL).strip() if is_sql(origin) else ""
    return f"{SQL}, by {program}" if program else origin.strip()


def describe_writer(actor: str, origin: str) -> str:
    """Return both in one line."""
    return ", ".join(filter(None, (describe_actor(actor, origin), describe_origin(origin)))) or "not known"
