"""Descriptions of failed database operations: what happened, in which database, and how to correct it.

The exception classes of PEP 249 are too broad to say what happened: ``OperationalError`` covers a locked file, a
missing table of SQLite and a lost connection. The kind of a fault is therefore determined from the database's own code:
SQLSTATE for PostgreSQL, the error number for MySQL and MariaDB, the result code for SQLite.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from django.db import Error as DjangoDatabaseError
from django.db import IntegrityError, InterfaceError, connections, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from declbind.models import BindingRecord, Configuration
from declbind.outbound.memory_databases import describe_memory

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise as Text

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
            return gettext("Nothing was stored.")
        return gettext("It is not known whether the edit was stored; check the binding before you repeat it.")


#: What happened, by kind.
_TEXTS: Mapping[Kind, Text] = {
    "collision": _("Another transaction changed the same rows in %(where)s at the same time: %(said)s."),
    "locked": _("Another connection holds a lock in %(where)s and did not release it in time: %(said)s."),
    "timeout": _("A statement took longer than the time limit of %(where)s: %(said)s."),
    "missing": _("A table or column is missing in %(where)s: %(said)s."),
    "read-only": _("The connection to %(where)s only reads and cannot write: %(said)s."),
    "forbidden": _("%(user)r lacks a privilege in %(where)s: %(said)s."),
    "unreachable": _("The connection to %(where)s could not be made, or was lost: %(said)s."),
    "full": _("There is no space left in %(where)s: %(said)s."),
    "damaged": _("The data of %(where)s cannot be read: %(said)s."),
    "duplicate": _("A row with the same key exists already in %(where)s: %(said)s."),
    "reference": _("A row refers to one that does not exist in %(where)s: %(said)s."),
    "constraint": _("A row breaks a constraint of %(where)s: %(said)s."),
    "other": _("%(where)s reported an error (%(exception)s: %(said)s)."),
}
_CONCURRENT_EDIT = _("Another user edited the configuration in %(where)s at the same time: %(said)s.")
#: How to correct it, for the kinds whose action does not depend on the database.
_ACTIONS: Mapping[Kind, Text] = {
    "collision": _("Try again."),
    "timeout": _("Try again when the database is less busy, or raise the limit."),
    "forbidden": _("Grant it to the user that DATABASES names, then try again."),
    "full": _("Free some space, then try again."),
    "damaged": _("Check the disk and restore the database from a backup."),
    "duplicate": _(
        "Trying again does not help: check the row and the constraint in the message. If the database generates the "
        "key, as after a restore, `manage.py sqlsequencereset` corrects it."
    ),
    "reference": _(
        "If a user was deleted meanwhile, log in again and repeat the edit. Otherwise restore the missing row, or the "
        "relation that was changed by hand."
    ),
    "constraint": _("Compare the table with the migrations: a trigger or a constraint of your own may refuse the row."),
    "other": _("Check the logs of the database and of this process."),
}


def describe_fault(error: DjangoDatabaseError, using: str) -> DatabaseFault:
    """Return the meaning of an exception of Django's database layer.

    Args:
        error: The exception as Django raised it. The exception of the driver is its cause.
        using: The alias of the database that was used.
    """
    kind = _kind_of(error, using)
    is_concurrent_edit = kind == "duplicate" and _is_configuration(error)
    text = (_CONCURRENT_EDIT if is_concurrent_edit else _TEXTS[kind]) % {
        "where": _place_of(using),
        "said": " ".join(str(error).split()).rstrip("."),
        "user": connections[using].settings_dict.get("USER") or gettext("the process"),
        "exception": type(error).__name__,
    }
    text = f"{text[0].upper()}{text[1:]}"
    action = gettext("Try again.") if is_concurrent_edit else _action_of(kind, using)
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
            return str(_ACTIONS[kind])


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
        host = f"{options['HOST']}:{options['PORT']}" if options.get("PORT") else options["HOST"]
        where = gettext("%(database)s at %(host)s") % {"database": where, "host": host}
    details = ", ".join(filter(None, (connection.display_name, where)))
    return gettext("database %(alias)r (%(details)s)") % {"alias": using, "details": details}


def _unlock_action(using: str) -> str:
    if connections[using].vendor != "sqlite":
        return gettext("Try again. If it lasts, look for a transaction that was left open.")
    options = connections[using].settings_dict.get("OPTIONS") or {}
    if str(options.get("transaction_mode") or "DEFERRED").upper() == "DEFERRED":
        return gettext(
            "Try again when the other program is done. If it lasts, look for a transaction that was left open. Set "
            'OPTIONS["transaction_mode"] = "IMMEDIATE", so that transactions wait for each other.'
        )
    return gettext("Try again when the other program is done. If it lasts, look for a transaction that was left open.")


def _migrate_action(using: str) -> str:
    if in_memory := describe_memory(using):
        return str(in_memory)
    own = router.db_for_write(BindingRecord)
    if using != own and not router.allow_migrate_model(using, BindingRecord):
        text = gettext("declbind's tables are in database %(database)r: name that one with --database.")
        return text % {"database": own}
    return gettext("Run `manage.py migrate --database %(database)s`.") % {"database": using}


def _connect_action(using: str) -> str:
    if connections[using].vendor == "sqlite":
        return gettext("Check that its folder exists and that the process may open the file.")
    text = gettext("Check that the server is running and that DATABASES[%(database)r] is correct, then try again.")
    return text % {"database": using}


def _write_action(using: str) -> str:
    if connections[using].vendor == "sqlite":
        return gettext("Let the process write to the file and to its folder, in which SQLite keeps its journal.")
    text = gettext(
        "Let DATABASES[%(database)r] lead to the primary server and not to a replica, and end the read-only mode of "
        "the server, the database or the user."
    )
    return text % {"database": using}
