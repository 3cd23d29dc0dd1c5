"""Facts about a model's tables that capture needs to know, as reported by the database.

A table is *ordinary* if it is not a view and has no triggers, rules or policies. A statement then stores exactly the
values that it contains, and reading the columns cannot fail. Rows of any other table are read back after each write,
inside a savepoint.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from django.db import connections, models, transaction
from django.db.backends.signals import connection_created

from declbind.django_types import Connection, ExecuteContext, Method, concrete_model

if TYPE_CHECKING:
    from django.db.models.options import Options as ModelOptions

Options: TypeAlias = "ModelOptions[models.Model]"

logger = logging.getLogger("declbind")

#: How many seconds the facts about a table are cached, because a trigger may be added while the process runs. Changes
#: made by this process are noticed at once: SQLite counts the changes of its schema, and statements to other databases
#: are examined.
SECONDS = 0.02

_POSTGRESQL = """
    SELECT table_.relkind IN ('r', 'p') AND has_table_privilege(table_.oid, 'UPDATE'),
        table_.relkind = 'r' AND NOT table_.relhasrules AND NOT table_.relhassubclass AND NOT table_.relrowsecurity
        AND has_table_privilege(table_.oid, 'SELECT') AND NOT EXISTS (
            SELECT FROM pg_trigger
            WHERE tgrelid = table_.oid AND NOT tgisinternal AND NOT starts_with(tgname, 'declbind_')
        ),
        (SELECT json_object_agg(attname, format_type(atttypid, atttypmod))::text FROM pg_attribute
            WHERE attrelid = table_.oid AND attnum > 0 AND NOT attisdropped),
        table_.relkind IN ('r', 'p') AND NOT table_.relhasrules AND NOT table_.relrowsecurity
        AND has_table_privilege(table_.oid, 'SELECT'),
        -- The bits of a trigger that is fired for each row, before it, by an INSERT.
        EXISTS (SELECT FROM pg_trigger WHERE tgrelid = table_.oid AND NOT tgisinternal AND tgtype & 7 = 7)
    FROM pg_class AS table_ WHERE table_.oid = to_regclass(%s)
"""
_MYSQL = """
    SELECT table_type = 'BASE TABLE', NOT EXISTS (
        SELECT 1 FROM information_schema.triggers
        WHERE event_object_schema = DATABASE() AND event_object_table = table_name
    ) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = %s
"""


class TableFacts(NamedTuple):
    """The facts that hold for all tables of a model."""

    #: Whether a statement stores exactly its values, and the columns can be read.
    is_ordinary: bool
    #: Whether rows can be locked.
    is_lockable: bool
    #: The attribute names of columns whose type is the one that Django creates, so that they store values unchanged.
    exact: frozenset[str]
    #: The attribute names of columns that do not exist, because a migration has not been applied.
    missing: frozenset[str] = frozenset()
    #: Whether a statement returns exactly the rows that it wrote, because no rule or view replaces it.
    is_table: bool = False
    #: Whether a trigger may prevent an insert, or insert the row by another statement.
    may_divert: bool = True


_UNKNOWN = TableFacts(False, False, frozenset())
#: Keyed by model, database, and schema if a package for tenants changes the schema of a connection. The values are the
#: expiry time, SQLite's schema version at that time, and the facts.
_answers: dict[tuple[type[models.Model], str, str | None], tuple[float, int, TableFacts]] = {}


def facts_of(model: type[models.Model], using: str) -> TableFacts:
    """Return what a database reports about the tables that hold a model's rows. Never raises."""
    connection = connections[using]
    key = (model, using, getattr(connection, "schema_name", None))
    try:
        version = _schema_version(connection) if connection.vendor == "sqlite" else 0
    except Exception:  # for instance, the table is locked
        return _UNKNOWN
    known, now = _answers.get(key), time.monotonic()
    # After a rollback SQLite may use a schema version again, so it cannot replace the expiry time.
    if known is not None and now < known[0] and version == known[1]:
        return known[2]
    if len(_answers) > 1_000:
        _answers.clear()
    facts = _ask(model, connection)
    _answers[key] = now + SECONDS, version, facts
    return facts


def _schema_version(connection: Connection) -> int:
    if connection.connection is None:
        connection.ensure_connection()
    version: int = connection.connection.execute("PRAGMA schema_version").fetchone()[0]
    return version


class _Notice:
    """An execute wrapper that drops the cached facts when a statement may have changed a table.

    Other changes take effect when the cached facts expire.
    """

    declbind_leaves_text = True

    def __call__(self, execute: Method, sql: object, params: object, many: bool, context: ExecuteContext) -> object:
        """Execute a statement."""
        result = execute(sql, params, many, context)
        if isinstance(sql, str) and sql[:1] not in _HARMLESS and _DEFINITION.search(sql):
            _answers.clear()
        return result


_notice = _Notice()
#: The first letters of SELECT, INSERT and UPDATE. Statements that begin with them never change a table's definition.
_HARMLESS = frozenset("SIU")
_DEFINITION = re.compile(r"\b(CREATE|ALTER|DROP)\b", re.IGNORECASE)


def _watch(connection: Connection, **kwargs: object) -> None:
    # Every statement pays for this check, which would be measurable on databases without a server.
    if connection.vendor != "sqlite" and _notice not in connection.execute_wrappers:
        # The first wrapper is the outermost.
        connection.execute_wrappers.insert(0, _notice)


def install() -> None:
    """Watch for statements of this process that change tables."""
    connection_created.connect(_watch, dispatch_uid="declbind.catalog")
    for connection in connections.all(initialized_only=True):
        _watch(connection)


def savepoint_for(tables: Iterable[type[models.Model]], using: str) -> AbstractContextManager[object]:
    """Return a context manager in which a failing read of the models' tables does not end the host's transaction.

    It takes a savepoint, unless all the tables are ordinary.
    """
    if all(facts_of(model, using).is_ordinary for model in tables):
        return _NO_SAVEPOINT
    return transaction.atomic(using=using)


_NO_SAVEPOINT = contextlib.nullcontext()


def _ask(model: type[models.Model], connection: Connection) -> TableFacts:
    ask = _ASK.get(connection.vendor)
    if ask is None:
        return _UNKNOWN
    options = model._meta
    try:
        found = [ask(table._meta, connection) for table in (concrete_model(model), *options.all_parents)]
    except Exception as error:
        # An unexpected result of a driver or server.
        logger.warning("The database did not answer a query about the table of %s: %s", options.label, error)
        return _UNKNOWN
    return TableFacts(
        all(facts.is_ordinary for facts in found),
        all(facts.is_lockable for facts in found),
        frozenset().union(*(facts.exact for facts in found)),
        frozenset().union(*(facts.missing for facts in found)),
        all(facts.is_table for facts in found),
        any(facts.may_divert for facts in found),
    )


def _ask_postgresql(options: Options, connection: Connection) -> TableFacts:
    row = _fetch(connection, _POSTGRESQL, connection.ops.quote_name(options.db_table))
    if row is None:
        return _UNKNOWN
    is_lockable, is_plain, found, is_table, may_divert = row
    facts = _facts(options, connection, is_plain, is_lockable, json.loads(found or "{}"), _postgresql_type)
    return facts._replace(is_table=is_table, may_divert=may_divert)


def _ask_sqlite(options: Options, connection: Connection) -> TableFacts:
    table = options.db_table
    connection.ensure_connection()
    with contextlib.closing(connection.connection.cursor()) as cursor:
        kinds = cursor.execute(
            "SELECT type, name FROM sqlite_master WHERE tbl_name = ? COLLATE NOCASE"
            " AND (type IN ('table', 'view') OR type = 'trigger' AND substr(name, 1, 9) <> 'declbind_')",
            [table],
        ).fetchall()
        described = cursor.execute("SELECT name, lower(type) FROM pragma_table_xinfo(?)", [table]).fetchall()
    columns = dict(described)
    found = [kind for kind, _ in kinds]
    facts = _facts(options, connection, found == ["table"], False, columns, str.lower)
    return facts._replace(is_table="table" in found, may_divert="trigger" in found)


def _ask_mysql(options: Options, connection: Connection) -> TableFacts:
    row = _fetch(connection, _MYSQL, options.db_table)
    if row is None:
        return _UNKNOWN
    exact = frozenset(field.attname for field in options.local_concrete_fields)
    return TableFacts(bool(row[0] and row[1]), bool(row[0]), exact)


_ASK: dict[str, Callable[[Options, Connection], TableFacts]] = {
    "postgresql": _ask_postgresql,
    "sqlite": _ask_sqlite,
    "mysql": _ask_mysql,
}


def _facts(
    options: Options,
    connection: Connection,
    is_plain: bool,
    is_lockable: bool,
    columns: dict[str, str],
    write_type: Callable[[str], str],
) -> TableFacts:
    fields = options.local_concrete_fields
    exact = frozenset(
        field.attname
        for field in fields
        if field.column in columns and columns[field.column] == write_type(field.db_type(connection) or "")
    )
    missing = frozenset(field.attname for field in fields if field.column not in columns and not field.generated)
    return TableFacts(is_plain and not missing, is_lockable, exact, missing)


def _postgresql_type(text: str) -> str:
    """Return a type name in the form that PostgreSQL reports."""
    return text.lower().replace("varchar", "character varying").replace(", ", ",")


def _fetch(connection: Connection, sql: str, table: str) -> tuple[Any, ...] | None:
    # This bypasses Django's cursors, so that code which counts or changes statements does not see it.
    connection.ensure_connection()
    if hasattr(connection, "schema_name"):
        # Packages that switch schemas send the new search path when Django creates a cursor.
        connection.cursor().close()
    with connection.wrap_database_errors, contextlib.closing(connection.connection.cursor()) as cursor:
        cursor.execute(sql, [table])
        row: tuple[Any, ...] | None = cursor.fetchone()
        return row
