"""Checks of bindings, wherever they are defined (W001, W002, W003, W004, W016, W017, W024)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from django.core.checks import CheckMessage
from django.core.checks import Warning as CheckWarning
from django.db import DatabaseError, connections, router

from declbind import record_warnings
from declbind.bindings import Binding
from declbind.conf import settings
from declbind.core.errors import Problem
from declbind.core.registry import Entry
from declbind.english import in_english
from declbind.models import BindingRecord
from declbind.registry import BindingRegistry, current_registry, database_alias, load_configuration
from declbind.sources.code import find_scattered, find_unbound, name_of
from declbind.sources.unimported import UnimportedClass, find_unimported

from .settings import is_readable


@in_english()
def check_bindings(**kwargs: object) -> list[CheckMessage]:
    """Check the bindings of files and classes (W001, W003, W004). Makes no query."""
    if not is_readable():
        return []
    missing = {str(folder).rstrip("/\\") for folder in settings.RECORD_DIRS if not Path(folder).is_dir()}
    found: list[CheckMessage] = []
    for entry in current_registry().entries:
        if entry.source == "database" or entry.where in missing:  # E005 reports missing folders.
            continue
        found += [_invalid(entry, problem, "declbind.W001") for problem in entry.problems]
        found += _doubtful(entry)
    return found


@in_english()
def check_classes(**kwargs: object) -> list[CheckMessage]:
    """Check that every process knows the binding classes (W016, W017). Makes no query."""
    if not is_readable():
        return []
    scattered: list[CheckMessage] = [
        CheckWarning(
            f"{name_of(cls)}: binding {cls.stream!r} is defined outside of the bindings modules of the installed apps. "
            f"Processes that do not import {cls.__module__} do not know it: their writes are not captured for it, and "
            "their sockets do not serve it.",
            hint="Move the class into the module bindings.py of an installed app, or import it there.",
            id="declbind.W016",
        )
        for cls in find_scattered()
    ]
    unbound: list[CheckMessage] = [
        CheckWarning(
            f"{name_of(cls)} is not in force, because {reason}.",
            hint="A binding is a class with a model and a stream at the top of a module. Use bindings.py of an "
            "installed app.",
            id="declbind.W017",
        )
        for cls, reason in find_unbound()
    ]
    return [*scattered, *(_unimported(found) for found in find_unimported()), *unbound]


@in_english()
def check_records(databases: Sequence[str] | None = None, **kwargs: object) -> list[CheckMessage]:
    """Check the records of the database (W002, W003, W004), and unaccepted fields of any source (W024).

    Nothing is checked if the database is not among ``databases`` or is not migrated yet.
    """
    registry = stored_registry(databases)
    if registry is None:
        return []
    found: list[CheckMessage] = []
    for entry in registry.entries:
        if entry.source == "database":
            found += [_invalid(entry, problem, "declbind.W002") for problem in entry.problems]
            found += _doubtful(entry)
        found += _waiting(entry)
    return found


def stored_registry(databases: Sequence[str] | None) -> BindingRegistry | None:
    """Return the registry with the records of the database, or ``None`` if they may not or cannot be loaded.

    Args:
        databases: The aliases that this run of the checks may query.
    """
    using = database_alias()
    if using not in (databases or ()) or not is_readable():
        return None
    try:
        if BindingRecord._meta.db_table not in connections[using].introspection.table_names():
            return None
        return load_configuration(using)[1]
    except DatabaseError:
        # In the middle of a migration the table may lack a column, and migrate runs these checks first.
        return None


def foreign_database(binding: type[Binding]) -> str:
    """Return the alias of the database that a binding's model is written to, or "" if it is that of the event log."""
    alias = router.db_for_write(binding.model_class())
    return "" if alias == database_alias() else alias


def _unimported(found: UnimportedClass) -> CheckMessage:
    named = f"binding {found.stream!r}" if found.stream else "a binding"
    fields = "" if found.has_fields else " It has neither 'fields' nor 'exclude', and would be left out."
    return CheckWarning(
        f"{found.module}.{found.name}: {named} is defined outside of the bindings modules of the installed apps, and "
        f"this process has not imported {found.module}. Processes that do not import it do not know the binding: their "
        f"writes are not captured for it, and their sockets do not serve it.{fields}",
        hint="Move the class into the module bindings.py of an installed app, or import it there.",
        id="declbind.W016",
    )


def _invalid(entry: Entry[type[Binding]], problem: Problem, id_: str) -> CheckMessage:
    return CheckWarning(
        f"{entry.where}: {problem}",
        hint="This binding is left out. The others work. `manage.py declbind check` lists all problems.",
        id=id_,
    )


def _waiting(entry: Entry[type[Binding]]) -> Iterator[CheckMessage]:
    if entry.binding is None or entry.problems or not entry.binding.enabled:
        return
    for problem in record_warnings.find_waiting_fields(entry.binding.spec()):
        yield CheckWarning(
            f"{entry.where}: {problem}",
            hint='With "grow": true a binding sends new fields automatically.',
            id="declbind.W024",
        )


def _doubtful(entry: Entry[type[Binding]]) -> Iterator[CheckMessage]:
    binding = entry.binding
    if binding is None or entry.problems or not binding.enabled:
        return
    for problem in record_warnings.find_warnings(binding.spec()):
        yield CheckWarning(
            f"{entry.where}: {problem}",
            hint='If it is intended, silence it: SILENCED_SYSTEM_CHECKS = ["declbind.W003"].',
            id="declbind.W003",
        )
    guard = binding.resolved().guard
    suspects = sorted(map(str, guard.suspects(tuple(binding.send_members), 0))) if guard is not None else []
    if suspects:
        yield CheckWarning(
            f"{entry.where}: binding {entry.stream!r} sends null for {', '.join(map(repr, suspects))} of "
            "'send_members', because the name looks like that of a secret.",
            hint="Take it out of 'send_members', or name it in 'sensitive' to send its values.",
            id="declbind.W003",
        )
    alias = foreign_database(binding)
    if alias and binding.spec().outbound:
        yield CheckWarning(
            f"{entry.where}: binding {entry.stream!r} captures no writes: {binding.model_class()._meta.label} "
            f"is written to database {alias!r}, the log is in {database_alias()!r}.",
            hint="An event is stored in the transaction of its write, which takes one database for both. "
            "Route the models of app 'declbind' to the database of the bound models.",
            id="declbind.W004",
        )
