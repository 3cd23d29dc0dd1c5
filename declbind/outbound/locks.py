"""Queue for the write lock of a database that has one for all writers."""

from __future__ import annotations

from django.db import connections


def take_write_lock(using: str) -> None:
    """Wait for SQLite's write lock, before the first read of a transaction that is going to write.

    In its default mode a transaction that reads first and writes later fails at once, whatever the timeout, when
    another one wrote in between. So what capture reads before a write would make that write fail, which else waits its
    turn. To be called inside of a transaction on the database of the log; other databases have nothing to queue for.
    """
    connection = connections[using]
    if connection.vendor == "sqlite" and (getattr(connection, "transaction_mode", None) or "DEFERRED") == "DEFERRED":
        # Past Django's cursors: it is no query, for those who count theirs.
        with connection.wrap_database_errors:
            connection.connection.execute("DELETE FROM declbind_head WHERE 0")
