"""The write lock of a database that has one for all writers, and errors after which a transaction is over."""

from __future__ import annotations

from typing import Protocol, SupportsInt

from django.db import DatabaseError, connections, transaction

#: The status of a transaction in which a statement has failed, as libpq and so both drivers number it.
_IN_ERROR = 3
#: What MySQL and MariaDB report when they have rolled the whole transaction back, or may have: deadlock, lock wait
#: timeout (if so configured), a changed record under snapshot isolation, and a connection that was lost.
_MYSQL_ENDS = frozenset({1213, 1205, 1020, 2006, 2013, 2055})


class _PsycopgInfo(Protocol):
    """What a psycopg connection says of itself."""

    @property
    def transaction_status(self) -> SupportsInt:
        """The status of the transaction, by libpq's numbers."""


class _PsycopgConnection(Protocol):
    """A connection of psycopg 3 or psycopg2."""

    @property
    def info(self) -> _PsycopgInfo:
        """What is known of the connection."""


def take_write_lock(using: str) -> None:
    """Wait for SQLite's write lock, before the first read of a transaction that is going to write.

    In SQLite's default mode, a transaction that reads first and writes later fails at once if another one wrote in
    between, whatever the timeout. A read of capture would cause that failure in a write that otherwise waits its turn.
    Call it inside a transaction on the database of the log; it does nothing on other databases.
    """
    connection = connections[using]
    if connection.vendor == "sqlite" and (getattr(connection, "transaction_mode", None) or "DEFERRED") == "DEFERRED":
        # Past Django's cursors, so that tests that count their queries do not see it.
        with connection.wrap_database_errors:
            connection.connection.execute("DELETE FROM declbind_head WHERE 0")


def ends_transaction(error: BaseException, using: str) -> bool:
    """Return whether an error has ended the transaction that is open, so that nothing may be written in it any more.

    Capture must not swallow such an error. MySQL and MariaDB roll the transaction back and would run the statements
    that follow in a new one: the host's earlier writes would be lost without a word. PostgreSQL refuses those that
    follow, whose errors do not say why.
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
    """Return the status of a psycopg 3 or psycopg2 connection's transaction."""
    return int(connection.info.transaction_status)
