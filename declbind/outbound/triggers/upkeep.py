"""Installation, removal and inspection of triggers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from django.db import connections, transaction

from declbind.django_types import Connection
from declbind.outbound.batch import Batch
from declbind.outbound.index import Index, current_index

from . import postgresql, sqlite
from .tables import WantedTable, captured_tables, wanted_tables

#: The installed triggers: (table, event) -> fingerprint, or "disabled".
Found = dict[tuple[str, str], str]


class Dialect(Protocol):
    """The interface of a module that generates the trigger SQL of one database."""

    @property
    def EVENTS(self) -> tuple[str, ...]:
        """The kinds of write, each of which has a trigger."""

    def install_sql(self, tables: list[WantedTable], connection: Connection) -> list[str]:
        """Return the statements that install the triggers of tables."""

    def remove_sql(self, triggers: list[tuple[str, str]], connection: Connection) -> list[str]:
        """Return the statements that remove triggers, given as (table, event)."""

    def load_found(self, connection: Connection) -> Found:
        """Return the installed declbind triggers."""

    def fingerprint(self, table: WantedTable, event: str, connection: Connection) -> str:
        """Return the fingerprint that ``load_found`` returns for a trigger that is up to date."""


_DIALECTS: dict[str, Dialect] = {"postgresql": postgresql, "sqlite": sqlite}


class UnsupportedError(Exception):
    """Raised for a database without support for triggers."""


@dataclass(frozen=True)
class TableState:
    """The state of one table's triggers: ``installed``, ``missing``, ``outdated``, ``disabled`` or ``left over``.

    ``missing`` means that some of them are missing. ``outdated`` means that a binding or the table has changed since
    they were installed. ``left over`` means that no binding needs them.
    """

    table: str
    streams: tuple[str, ...]
    state: str
    #: The kinds of write that no installed trigger marks, such as "update".
    unmarked: tuple[str, ...] = ()

    @property
    def is_well(self) -> bool:
        """Return whether every write of the table gets a mark with the columns that bindings require."""
        return self.state == "installed"


def is_supported(using: str) -> bool:
    """Return whether triggers are supported on a database."""
    return connections[using].vendor in _DIALECTS


def load_states(using: str, index: Index | None = None) -> list[TableState]:
    """Return the state of each table that has triggers or needs them, sorted by name."""
    wanted = wanted_tables(index or current_index())
    if not is_supported(using):
        return [TableState(table.name, table.streams, "missing", ("insert", "update", "delete")) for table in wanted]
    connection, dialect = connections[using], _dialect(using)
    found = dialect.load_found(connection)
    states = [_state_of(table, found, connection, dialect) for table in wanted]
    names = {table.name for table in wanted}
    states += [TableState(table, (), "left over") for table in sorted({table for table, _ in found} - names)]
    return sorted(states, key=lambda state: state.table)


def _state_of(table: WantedTable, found: Found, connection: Connection, dialect: Dialect) -> TableState:
    missing = [event for event in dialect.EVENTS if (table.name, event) not in found]
    disabled = [event for event in dialect.EVENTS if found.get((table.name, event)) == "disabled"]
    if missing or disabled:
        state = "missing" if missing else "disabled"
        return TableState(table.name, table.streams, state, (*missing, *disabled))
    if any(found[table.name, event] != dialect.fingerprint(table, event, connection) for event in dialect.EVENTS):
        return TableState(table.name, table.streams, "outdated")
    return TableState(table.name, table.streams, "installed")


def install_sql(using: str) -> list[str]:
    """Return the statements that ``install`` would execute."""
    connection, dialect = connections[using], _dialect(using)
    tables = wanted_tables(current_index())
    statements = dialect.install_sql(tables, connection)
    wanted = {(table.name, event) for table in tables for event in dialect.EVENTS}
    left_over = sorted(set(dialect.load_found(connection)) - wanted)
    return [*statements, *dialect.remove_sql(left_over, connection)]


def install(using: str) -> None:
    """Install the triggers that bindings need and remove all other declbind triggers, in one transaction.

    Earlier writes may not have been captured, so subscribers are made to take a snapshot.
    """
    uncaptured = [state.table for state in load_states(using) if not state.is_well]
    _run(install_sql(using), using)
    announce_gap(uncaptured, using)


def remove(using: str) -> int:
    """Remove all declbind triggers; return the number of tables that had any."""
    connection, dialect = connections[using], _dialect(using)
    found = sorted(dialect.load_found(connection))
    _run(dialect.remove_sql(found, connection), using)
    return len({table for table, _ in found})


def announce_gap(tables: Iterable[str], using: str) -> None:
    """Make the subscribers of tables take a snapshot, because writes to the tables were not captured."""
    captured = captured_tables(current_index())
    with transaction.atomic(using=using):
        batch = Batch(using)
        for name in tables:
            for one in captured.get(name, ()):
                for plan in one.listeners.plans:
                    batch.lose_track(plan)
        batch.append()


def _run(statements: Iterable[str], using: str) -> None:
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def _dialect(using: str) -> Dialect:
    vendor = connections[using].vendor
    if vendor not in _DIALECTS:
        raise UnsupportedError(f"Expected a database of {' or '.join(sorted(_DIALECTS))}, got {vendor!r}.")
    return _DIALECTS[vendor]
