"""SQLite's lock for all writers, and the recognition of errors that end a transaction."""

from __future__ import annotations

from typing import Protocol, SupportsInt

from django.db import DatabaseError, connections, transaction

#: The status of a transaction in which a statement has failed, as numbered by libpq and both drivers.
_IN_ERROR = 3
#: Error codes of MySQL and MariaDB after which the whole transaction is, or may be, rolled back: deadlock, lock wait
#: timeout (if so configured), a changed record under snapshot isolation, and a lost connection.
_MYSQL_ENDS = frozenset({1213, 1205, 1020, 2006, 2013, 2055})


class _PsycopgInfo(Protocol):
    """The state of a psycopg connection."""

    @property
    def transaction_status(self) -> SupportsInt:
        """Return the status of the transaction, as numbered by libpq."""


class _PsycopgConnection(Protocol):
    """A connection of psycopg 3 or psycopg2."""

    @property
    def info(self) -> _PsycopgInfo:
        """Return the state of the connection."""


def take_write_lock(using: str) -> None:
    """Wait for SQLite's write lock before a transaction makes its first read, if it is going to write.

    In SQLite's default mode, a transaction that reads first and writes later fails at once if another one wrote in
    between, whatever the timeout. Without this, a read of capture would make the application's write fail in that way.
    Call it inside a transaction on the database of the log; it does nothing on other databases.
    """
    connection = connections[using]
    if connection.vendor == "sqlite" and (getattr(connection, "transaction_mode", None) or "DEFERRED") == "DEFERRED":
        # This bypasses Django's cursors, so that tests that count their queries do not see it.
        with connection.wrap_database_errors:
            connection.connection.execute("DELETE FROM declbind_head WHERE 0")


def ends_transaction(error: BaseException, using: str) -> bool:
    """Return whether an error has ended the open transaction, so that nothing more may be written in it.

    Capture must not suppress such an error. MySQL and MariaDB have rolled the transaction back and would run the
    following statements in a new one, so the host's earlier writes would be lost silently. PostgreSQL refuses the
    following statements, with errors that do not name the cause.
    """
    connection = transaction.get_connection(using)
    if connection.needs_rollback:
        return True
    if connection.vendor == "postgresql" and connection.connection is not None:
        return bool(_postgresql_status(connection.connection) == _IN_ERROR)
    if not isinstance(error, DatabaseError) or connection.vendor != "mysql":
        return False
    return bool(error.args) and error.args[0] in _MYSQL_ENDS


def _postgresql_status(connection: _PsycopgConnection) -> int:
    """Return the transaction status of a psycopg 3 or psycopg2 connection."""
    return int(connection.info.transaction_status)
