"""Descriptions of failed database operations: what happened, in which database, and how to correct it.

The exception classes of PEP 249 are too broad to say what happened: ``OperationalError`` covers a locked file, a
missing table of SQLite and a lost connection. The kind of a fault is therefore determined from the database's own code:
SQLSTATE for PostgreSQL, the error number for MySQL and MariaDB, the result code for SQLite.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from django.db import Error as DjangoDatabaseError
from django.db import IntegrityError, InterfaceError, connections, router
from django.db.backends.base.base import BaseDatabaseWrapper

from declbind.models import BindingRecord, Configuration
from declbind.outbound.memory_databases import describe_memory

Kind = Literal[
    "collision",
    "locked",
    "timeout",
    "missing",
    "read-only",
    "forbidden",
    "unreachable",
    "full",
    "damaged",
    "duplicate",
    "reference",
    "constraint",
    "other",
]

#: PostgreSQL's SQLSTATE codes, or their first two characters (the class).
_POSTGRESQL: dict[str, Kind] = {
    "40001": "collision",
    "40P01": "collision",
    "55P03": "locked",
    "57014": "timeout",
    "42P01": "missing",
    "42703": "missing",
    "42883": "missing",
    "3F000": "missing",
    "25006": "read-only",
    "42501": "forbidden",
    "57P": "unreachable",
    "08": "unreachable",
    "28": "unreachable",
    "3D000": "unreachable",
    "53300": "unreachable",
    "53100": "full",
    "XX": "damaged",
    "23505": "duplicate",
    "23503": "reference",
    "23": "constraint",
}
#: Error numbers of MySQL and MariaDB.
_MYSQL: dict[int, Kind] = {
    1213: "collision",
    1020: "collision",
    1205: "locked",
    3024: "timeout",
    1969: "timeout",
    1146: "missing",
    1054: "missing",
    1305: "missing",
    1290: "read-only",
    1792: "read-only",
    1836: "read-only",
    1142: "forbidden",
    1143: "forbidden",
    1227: "forbidden",
    1370: "forbidden",
    1040: "unreachable",
    1044: "unreachable",
    1045: "unreachable",
    1049: "unreachable",
    1053: "unreachable",
    1203: "unreachable",
    1927: "unreachable",
    2002: "unreachable",
    2003: "unreachable",
    2005: "unreachable",
    2006: "unreachable",
    2013: "unreachable",
    2055: "unreachable",
    4031: "unreachable",
    1021: "full",
    1114: "full",
    1062: "duplicate",
    1586: "duplicate",
    1216: "reference",
    1217: "reference",
    1451: "reference",
    1452: "reference",
}
#: Extended result codes of SQLite, or their lowest byte.
_SQLITE: dict[int, Kind] = {
    5: "locked",
    6: "locked",
    8: "read-only",
    3: "forbidden",
    23: "forbidden",
    14: "unreachable",
    10: "damaged",
    11: "damaged",
    26: "damaged",
    13: "full",
    2067: "duplicate",
    1555: "duplicate",
    787: "reference",
    19: "constraint",
}
_SQLITE_MISSING = re.compile(r"no such (table|column)|has no column named")


@dataclass(frozen=True)
class DatabaseFault:
    """A failed database operation. ``text`` says what happened and where, ``action`` how to correct it.

    ``is_certain`` is false if the connection was lost, because the database may have committed the transaction.
    """

    kind: Kind
    text: str
    action: str
    is_certain: bool = True

    def __str__(self) -> str:
        return f"{self.text} {self.action}"

    @property
    def outcome(self) -> str:
        """Return a sentence on whether the edit that failed with this fault was stored."""
        if self.is_certain:
            return "Nothing was stored."
        return "It is not known whether the edit was stored; check the binding before you repeat it."


#: What happened, by kind.
_TEXTS: dict[Kind, str] = {
    "collision": "Another transaction changed the same rows in {where} at the same time: {said}.",
    "locked": "Another connection holds a lock in {where} and did not release it in time: {said}.",
    "timeout": "A statement took longer than the time limit of {where}: {said}.",
    "missing": "A table or column is missing in {where}: {said}.",
    "read-only": "The connection to {where} only reads and cannot write: {said}.",
    "forbidden": "{user!r} lacks a privilege in {where}: {said}.",
    "unreachable": "The connection to {where} could not be made, or was lost: {said}.",
    "full": "There is no space left in {where}: {said}.",
    "damaged": "The data of {where} cannot be read: {said}.",
    "duplicate": "A row with the same key exists already in {where}: {said}.",
    "reference": "A row refers to one that does not exist in {where}: {said}.",
    "constraint": "A row breaks a constraint of {where}: {said}.",
    "other": "{where} reported an error ({exception}: {said}).",
}
_CONCURRENT_EDIT = "Another user edited the configuration in {where} at the same time: {said}."
#: How to correct it, for the kinds whose action does not depend on the database.
_ACTIONS: dict[Kind, str] = {
    "collision": "Try again.",
    "timeout": "Try again when the database is less busy, or raise the limit.",
    "forbidden": "Grant it to the user that DATABASES names, then try again.",
    "full": "Free some space, then try again.",
    "damaged": "Check the disk and restore the database from a backup.",
    "duplicate": "Trying again does not help: check the row and the constraint in the message. If the database "
    "generates the key, as after a restore, `manage.py sqlsequencereset` corrects it.",
    "reference": "If a user was deleted meanwhile, log in again and repeat the edit. Otherwise restore the missing "
    "row, or the relation that was changed by hand.",
    "constraint": "Compare the table with the migrations: a trigger or a constraint of your own may refuse the row.",
    "other": "Check the logs of the database and of this process.",
}


def describe_fault(error: DjangoDatabaseError, using: str) -> DatabaseFault:
    """Return the meaning of an exception of Django's database layer.

    Args:
        error: The exception as Django raised it. The exception of the driver is its cause.
        using: The alias of the database that was used.
    """
    kind = _kind_of(error, using)
    is_concurrent_edit = kind == "duplicate" and _is_configuration(error)
    text = (_CONCURRENT_EDIT if is_concurrent_edit else _TEXTS[kind]).format(
        where=_place_of(using),
        said=" ".join(str(error).split()).rstrip("."),
        user=connections[using].settings_dict.get("USER") or "the process",
        exception=type(error).__name__,
    )
    text = f"{text[0].upper()}{text[1:]}"
    action = "Try again." if is_concurrent_edit else _action_of(kind, using)
    return DatabaseFault(kind, text, action, is_certain=kind != "unreachable")


def _action_of(kind: Kind, using: str) -> str:
    match kind:
        case "locked":
            return _unlock_action(using)
        case "missing":
            return _migrate_action(using)
        case "read-only":
            return _write_action(using)
        case "unreachable":
            return _connect_action(using)
        case _:
            return _ACTIONS[kind]


def failed_alias(error: DjangoDatabaseError, default: str) -> str:
    """Return the alias of the connection that raised an exception, or ``default`` if its traceback does not say."""
    step = error.__traceback__
    alias = default
    while step is not None:
        owner = step.tb_frame.f_locals.get("self")
        wrapper = owner if isinstance(owner, BaseDatabaseWrapper) else getattr(owner, "db", None)
        if isinstance(wrapper, BaseDatabaseWrapper):
            alias = wrapper.alias
        step = step.tb_next
    return alias


def _kind_of(error: DjangoDatabaseError, using: str) -> Kind:
    cause: Any = error.__cause__
    if cause is None:  # raised by Python code, not by a database
        return "other"
    vendor = connections[using].vendor
    kind: Kind | None = None
    if vendor == "postgresql":
        state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
        if state is None:
            # The driver raised the error itself, because no connection could be made or it was closed.
            is_driver = type(error).__name__ in ("OperationalError", "InterfaceError")
            return "unreachable" if is_driver else "other"
        kind = _POSTGRESQL.get(state) or _POSTGRESQL.get(state[:3]) or _POSTGRESQL.get(state[:2])
    elif vendor == "mysql":
        number = cause.args[0] if cause.args else None
        kind = _MYSQL.get(number) if isinstance(number, int) else None
    elif vendor == "sqlite":
        code = getattr(cause, "sqlite_errorcode", None)
        if code is not None:
            kind = _SQLITE.get(code) or _SQLITE.get(code & 0xFF)
        if kind is None and _SQLITE_MISSING.search(str(error)):
            kind = "missing"
    if kind is not None:
        return kind
    if isinstance(error, InterfaceError):
        return "unreachable"
    return "constraint" if isinstance(error, IntegrityError) else "other"


def _is_configuration(error: DjangoDatabaseError) -> bool:
    """Return whether the duplicate value is the stream of a record, or the only key of the configuration's row.

    Both are looked up before they are stored, so another user has committed the same value since. This is not so for
    other duplicate values.
    """
    table = getattr(getattr(error.__cause__, "diag", None), "table_name", None) or ""
    said = f"{table} {error}"
    record, configuration = BindingRecord._meta.db_table, Configuration._meta.db_table
    return (
        (record in said and bool(re.search(rf"\(stream\)=|{record}\.stream\b", said)))
        or (configuration in said and bool(re.search(rf"\(id\)=|{configuration}\.(id|PRIMARY)\b", said)))
        or bool(re.search(r"for key '(?:declbind_bindingrecord\.)?stream'", said))
    )


def _place_of(using: str) -> str:
    connection = connections[using]
    options = connection.settings_dict
    where = str(options.get("NAME") or "")
    if options.get("HOST"):
        where = f"{where} at {options['HOST']}" + (f":{options['PORT']}" if options.get("PORT") else "")
    return f"database {using!r} ({connection.display_name}{', ' if where else ''}{where})"


def _unlock_action(using: str) -> str:
    if connections[using].vendor != "sqlite":
        return "Try again. If it lasts, look for a transaction that was left open."
    action = "Try again when the other program is done. If it lasts, look for a transaction that was left open."
    options = connections[using].settings_dict.get("OPTIONS") or {}
    if str(options.get("transaction_mode") or "DEFERRED").upper() == "DEFERRED":
        action += ' Set OPTIONS["transaction_mode"] = "IMMEDIATE", so that transactions wait for each other.'
    return action


def _migrate_action(using: str) -> str:
    if in_memory := describe_memory(using):
        return in_memory
    own = router.db_for_write(BindingRecord)
    if using != own and not router.allow_migrate_model(using, BindingRecord):
        return f"declbind's tables are in database {own!r}: name that one with --database."
    return f"Run `manage.py migrate --database {using}`."


def _connect_action(using: str) -> str:
    if connections[using].vendor == "sqlite":
        return "Check that its folder exists and that the process may open the file."
    return f"Check that the server is running and that DATABASES[{using!r}] is correct, then try again."


def _write_action(using: str) -> str:
    if connections[using].vendor == "sqlite":
        return "Let the process write to the file and to its folder, in which SQLite keeps its journal."
    return (
        f"Let DATABASES[{using!r}] lead to the primary server and not to a replica, and end the read-only mode of the "
        "server, the database or the user."
    )
