"""Runs Python blocks and judges records, for `test_blocks`: `python -m tests.docs.runner`, blocks as JSON on stdin.

Each block runs in a child process, with a copy of one migrated database. So nothing that a block does (classes, signal
receivers, rows) is left for the next one. The answer is a JSON object on stdout: what went wrong, by the number of the
block.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import sys
import tempfile
import traceback
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command
from django.db import connections
from django.utils.module_loading import import_string

#: A block or a record, and how it is run.
Task = dict[str, Any]


def main() -> None:
    """Run the blocks of stdin."""
    folder = Path(tempfile.mkdtemp())
    try:
        template = folder / "template.sqlite3"
        os.environ.update(DATABASE_URL=f"sqlite:///{template}", DJANGO_SETTINGS_MODULE="tests.docs.settings")
        django.setup()
        call_command("migrate", run_syncdb=True, verbosity=0)
        connections.close_all()
        problems = {}
        for number, task in enumerate(json.load(sys.stdin)):
            copy = folder / f"{number}.sqlite3"
            shutil.copy(template, copy)
            if problem := run_apart(task, copy):
                problems[number] = problem
        json.dump(problems, sys.stdout)
    finally:
        shutil.rmtree(folder)


def run_apart(task: Task, database: Path) -> str:
    """Run one block in a child process; return the problem, "" if there is none."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        problem = ""
        try:
            # Everything that the block prints goes the way of errors: stdout is for the answer.
            os.dup2(2, 1)
            use_database(database)
            {"python": run_python, "record": validate_record}[task["kind"]](task)
        except BaseException:
            problem = traceback.format_exc(limit=-3)
        os.write(writing, problem.encode()[-60_000:])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        problem = pipe.read().decode()
    os.waitpid(child, 0)
    return problem


def use_database(path: Path) -> None:
    """Make the connections that this process opens use a database file."""
    for values in (settings.DATABASES["default"], connections["default"].settings_dict):
        values["NAME"] = str(path)


def validate_record(task: Task) -> None:
    """Raise ``ValidationError`` for a record that would not be stored."""
    from declbind.models import BindingRecord

    document = {key: value for key, value in task["record"].items() if key != "$schema"}
    BindingRecord(**document).full_clean()


def run_python(task: Task) -> None:
    """Run a block: as settings, as test cases, or as it is."""
    name = task["file"]
    values: dict[str, Any] = {"__name__": "documented"}
    if Path(name).name == "settings.py":
        values |= settings_names()
    values |= {each.rpartition(".")[2]: find_name(each) for each in task["names"]}
    module = type(sys)("documented")
    module.__dict__.update(values)
    sys.modules["documented"] = module
    compiled = compile(task["code"], task["place"], "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(compiled, module.__dict__)
    if result is not None:
        import asyncio

        asyncio.run(result)
    check_results(module.__dict__)


def check_results(values: dict[str, object]) -> None:
    """Check what a block has defined: settings, binding classes, test cases."""
    if isinstance(values.get("DECLBIND"), dict):
        from django.test import override_settings

        from declbind.checks.settings import check_settings

        with override_settings(DECLBIND=values["DECLBIND"]):
            # Paths into the reader's own project lead nowhere here.
            problems = [
                message
                for message in check_settings()
                if message.id not in ("declbind.E004", "declbind.E005", "declbind.E010")
            ]
        assert problems == [], problems
    from declbind import Binding
    from declbind.testing import override_bindings

    defined = [value for value in values.values() if isinstance(value, type) and value.__module__ == "documented"]
    for value in defined:
        if issubclass(value, Binding) and value.is_concrete():
            with override_bindings(value):
                pass
        if issubclass(value, unittest.TestCase):
            run_tests(value)


def run_tests(case: type[unittest.TestCase]) -> None:
    """Run the tests of a class; raise ``AssertionError`` if one fails or there is none."""
    tests = unittest.defaultTestLoader.loadTestsFromTestCase(case)
    assert tests.countTestCases(), f"{case.__name__} has no test"
    result = unittest.TestResult()
    tests.run(result)
    assert result.wasSuccessful(), "\n".join(text for _, text in result.errors + result.failures)


# Names that blocks may ask for ------------------------------------------------------------------------------


def find_name(name: str) -> object:
    """Return the object of a name in a block: it can be imported, or `NAMES` makes it."""
    return import_string(name) if "." in name else NAMES[name]()


def settings_names() -> dict[str, object]:
    """Return the names that a settings module of `startproject` has defined above the lines of a block."""
    return {
        "BASE_DIR": Path(tempfile.gettempdir()),
        "INSTALLED_APPS": list(settings.INSTALLED_APPS),
        "DATABASES": {
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": "db.sqlite3",
                "OPTIONS": {
                    "init_command": "PRAGMA journal_mode=WAL;",
                },
            }
        },
        "DECLBIND": {},
    }


def _model(label: str) -> Callable[[], Any]:
    def find() -> object:
        from django.apps import apps

        return apps.get_model(label)

    return find


def _user() -> object:
    from django.contrib.auth import get_user_model

    return get_user_model().objects.get_or_create(username="ada")[0]


def _room() -> object:
    return _model("notes.Room")().objects.get_or_create(name="Kitchen")[0]


def _note() -> object:
    return _model("notes.Note")().objects.create(text="Buy milk", room=_room(), owner=_user())


def _blog() -> object:
    return _model("blog.Blog")().objects.create(title="Regatta", slug="regatta")


def _public_key() -> str:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


NAMES: dict[str, Callable[[], object]] = {
    "Note": _model("notes.Note"),
    "Room": _model("notes.Room"),
    "Post": _model("blog.Post"),
    "user": _user,
    "room": _room,
    "note": _note,
    "blog": _blog,
    "PUBLIC_KEY_PEM": _public_key,
    "DATABASES": lambda: settings_names()["DATABASES"],
}

if __name__ == "__main__":
    main()
