"""The writes of the course, by name: each is done by a request, by a worker or by a process of its own.

Arguments and results are JSON, because they travel between processes.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db import DEFAULT_DB_ALIAS, connection, transaction

from declbind import touch
from declbind.console.why import Question, explain
from declbind.models import BindingRecord, Connection

from .models import Line, Note, Reading, Tag

operations: dict[str, Callable[..., object]] = {}


def perform(name: str, arguments: Mapping[str, Any]) -> Any:
    """Perform an operation, and let its exceptions pass."""
    return operations[name](**arguments)


def operation(function: Callable[..., object]) -> Callable[..., object]:
    """Register a function as an operation under its own name."""
    operations[function.__name__] = function
    return function


# Notes: the ways of the ORM -----------------------------------------------------------------------------------------


@operation
def add(room: int, text: str) -> int:
    """Save a new note; return its key."""
    note = Note(room=room, text=text)
    note.save()
    return int(note.pk)


@operation
def move(pk: int, room: int) -> None:
    """Save a note in another room."""
    note = Note._default_manager.get(pk=pk)
    note.room = room
    note.save()


@operation
def remove(pk: int) -> None:
    """Delete a note."""
    Note._default_manager.get(pk=pk).delete()


@operation
def update(pks: list[int], text: str) -> int:
    """Update several notes by one statement; return how many."""
    return int(Note._default_manager.filter(pk__in=pks).update(text=text))


@operation
def bulk_add(room: int, texts: list[str]) -> None:
    """Insert several notes by one statement."""
    Note._default_manager.bulk_create(Note(room=room, text=text) for text in texts)


@operation
def bulk_change(pks: list[int], text: str) -> None:
    """Set a different text on each of several notes in one statement."""
    notes = list(Note._default_manager.filter(pk__in=pks).order_by("pk"))
    for number, note in enumerate(notes):
        note.text = f"{text} {number}"
    Note._default_manager.bulk_update(notes, ["text"])


@operation
def tag(pk: int, words: list[str]) -> list[int]:
    """Set the tags of a note; return their keys."""
    tags = [Tag._default_manager.get_or_create(word=word)[0] for word in words]
    Note._default_manager.get(pk=pk).tags.set(tags)
    return sorted(tag.pk for tag in tags)


@operation
def roll_back(room: int) -> None:
    """Write in a transaction and in a savepoint, each of which is rolled back."""

    class Changed(Exception):
        pass

    try:
        with transaction.atomic():
            Note._default_manager.create(room=room, text="never there")
            Note._default_manager.update(text="never so")
            raise Changed
    except Changed:
        pass
    with transaction.atomic():
        try:
            with transaction.atomic():
                Note._default_manager.create(room=room, text="never there either")
                raise Changed
        except Changed:
            pass


@operation
def notes(room: int | None = None) -> list[dict[str, Any]]:
    """Return the notes as a subscriber should hold them."""
    found = (
        Note._default_manager.order_by("pk") if room is None else Note._default_manager.filter(room=room).order_by("pk")
    )
    return [
        {"pk": note.pk, "room": note.room, "text": note.text, "tags": sorted(note.tags.values_list("pk", flat=True))}
        for note in found
    ]


# Readings: raw SQL --------------------------------------------------------------------------------------------------


@operation
def write_sql(values: list[int], *, announce: bool) -> list[int]:
    """Insert readings by raw SQL; without triggers, announce the rows by hand. Return their keys."""
    with transaction.atomic(), connection.cursor() as cursor:
        before = set(Reading._default_manager.values_list("pk", flat=True))
        for value in values:
            cursor.execute("INSERT INTO compat_reading (value) VALUES (%s)", [value])
        added = sorted(set(Reading._default_manager.values_list("pk", flat=True)) - before)
        if announce:
            touch(Reading._default_manager.filter(pk__in=added))
    return added


# Lines: very many rows ------------------------------------------------------------------------------------------------


@operation
def fill(count: int) -> None:
    """Store this many lines of 192 characters, which compress badly."""
    chance = random.Random(count)
    lines = (Line(text=f"{chance.getrandbits(768):0192x}") for _ in range(count))
    Line._default_manager.bulk_create(lines, batch_size=1_000)


@operation
def change_line() -> int:
    """Save the first line again; return its key."""
    line = Line._default_manager.order_by("pk")[0]
    line.text = "changed"
    line.save()
    return int(line.pk)


# What operators are shown ---------------------------------------------------------------------------------------------


@operation
def connections() -> list[list[str]]:
    """Return the user and the subscribed streams of each open connection, as the console lists them."""
    return sorted(
        [connection.username, *sorted(heard[0] for heard in json.loads(connection.subscriptions) if heard[2] is None)]
        for connection in Connection.objects.filter(closed_at=None)
    )


@operation
def why(stream: str, row: int, user: str) -> list[str]:
    """Return the causes that the console gives for a row's last change, the most important first."""
    question = Question(stream, str(row), user)
    return [answer.cause.name for answer in explain(question, DEFAULT_DB_ALIAS).answers]


@operation
def database_version() -> str:
    """Return the name and the version of the database server."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("SELECT sqlite_version()")
            return f"SQLite {cursor.fetchone()[0]}"
        if connection.vendor == "postgresql":
            cursor.execute("SHOW server_version")
            return f"PostgreSQL {cursor.fetchone()[0].split()[0]}"
        cursor.execute("SELECT version()")
        name = "MariaDB" if getattr(connection, "mysql_is_mariadb", False) else "MySQL"
        return f"{name} {cursor.fetchone()[0].split('-')[0]}"


# Users, rights, configuration -----------------------------------------------------------------------------------------


@operation
def add_user(name: str, codenames: list[str]) -> str:
    """Store a user who holds permissions; return the user's key."""
    users = get_user_model()
    user = users._default_manager.create_user(name, password="only-for-tests")
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames, content_type__app_label="compat"))
    return str(user.pk)


@operation
def take_away(name: str, codename: str) -> None:
    """Revoke a permission of a user."""
    users = get_user_model()
    user = users._default_manager.get(**{users.USERNAME_FIELD: name})
    user.user_permissions.remove(Permission.objects.get(codename=codename, content_type__app_label="compat"))


@operation
def edit_record(stream: str, **values: object) -> None:
    """Change a binding record."""
    record = BindingRecord.objects.get(stream=stream)
    for name, value in values.items():
        setattr(record, name, value)
    record.save()
