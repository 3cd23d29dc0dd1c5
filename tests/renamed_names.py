"""A course of writes under a Django in which one private name has another name, as in a later release.

A name is renamed in the source of the whole package while it is imported, so that the package itself works as
before. As a program, this reads cases as JSON from its standard input, runs the course for each in a process of its
own, and prints the results.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import json
import os
import re
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Any

Change = Callable[[str], str]


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a module with another source than that of its file."""

    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        code: CodeType = compile(self._source, self.path, "exec", dont_inherit=True)
        return code


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of packages whose source is to be changed."""

    def __init__(self, changes: dict[str, Change]) -> None:
        self._changes = changes

    def find_spec(self, fullname: str, path: Any, target: object = None) -> Any:
        change = self._changes.get(fullname.partition(".")[0])
        spec = None if change is None else importlib.machinery.PathFinder.find_spec(fullname, path)
        if change is None or spec is None or not (spec.origin or "").endswith(".py"):
            return None
        source = Path(str(spec.origin)).read_text()
        changed = change(source)
        if changed != source:
            spec.loader = _Loader(fullname, str(spec.origin), changed)
        return spec


def renaming(name: str) -> Change:
    """Return the function that renames a name in a source."""
    pattern = re.compile(rf"\b{name}\b")
    return lambda source: pattern.sub(f"{name}_of_later", source)


def without_default(name: str) -> Change:
    """Return the function that removes the default from each ``getattr`` for a name."""
    constant = re.compile(rf'getattr\(([\w.]+), "{name}", (?:\(\)|[^()]+)\)')
    variable = re.compile(r"getattr\(([\w.]+), name, None\)")

    def change(source: str) -> str:
        if f'"{name}"' not in source or "SHORTCUTS" in source:
            return source
        return variable.sub(r"getattr(\1, name)", constant.sub(rf"\1.{name}", source))

    return change


def take(case: dict[str, Any], database: str) -> dict[str, Any]:
    """Run the course; return the content of the log, the checks and the tables."""
    changes = {case["package"]: renaming(case["name"])} if case["name"] else {}
    if case["mutant"] == "fallback":
        changes["declbind"] = without_default(case["name"])
    sys.meta_path.insert(0, _Finder(changes))
    os.environ["DATABASE_URL"] = database
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    import django

    with contextlib.suppress(ImportError):
        importlib.import_module(case["module"])  # such as daphne's, which no project needs
    if case["mutant"] == "check":
        from declbind.outbound import seam_checks

        find = seam_checks.Seam.find_problem
        seam_checks.Seam.find_problem = lambda self: "" if str(self) == case["seam"] else find(self)  # type: ignore[method-assign]
    django.setup()
    from django.core.checks import run_checks

    from declbind.console import doctor
    from declbind.outbound.capture import find_faults
    from declbind.testing import override_bindings

    with override_bindings(*BINDINGS):
        rows, events = write()
    return {
        "faults": [str(fault.seam) for fault in find_faults()],
        "checks": sorted({str(message.id) for message in run_checks(databases=["default"])}),
        "unexamined": [
            finding.meaning for finding in doctor.examine("default") if "Could not be examined" in finding.meaning
        ],
        "rows": rows,
        "events": events,
        **ask(),
    }


BINDINGS = (
    {"stream": "animals", "model": "zoo.Animal", "fields": ["name", "keeper", "foods"], "groups": ["of-{keeper_id}"]},
    {"stream": "trucks", "model": "zoo.Truck", "fields": ["plate", "load"]},
)


def write() -> tuple[list[Any], list[Any]]:
    """Write in each way; return what is stored then, and the events of it."""
    from declbind.models import Event
    from tests.zoo.models import Animal, Food, Keeper, Truck

    Event.objects.all().delete()
    keepers = [Keeper.objects.create(name=name) for name in ("Ann", "Bea")]
    foods = [Food.objects.create(name=name) for name in ("hay", "mice")]
    animal = Animal.objects.create(name="Owl", keeper=keepers[0])
    animal.keeper = keepers[1]
    animal.save()
    animal.foods.set(foods)
    animal.foods.set(foods[:1])
    Animal.objects.bulk_create([Animal(name=name, slug=name) for name in ("Elk", "Asp")])
    Animal.objects.filter(name="Elk").update(keeper=keepers[0])
    asp = Animal.objects.get(name="Asp")
    asp.keeper = keepers[0]
    Animal.objects.bulk_update([asp], ["keeper"])
    keepers[0].delete()
    Animal.objects.filter(name="Elk").delete()
    truck = Truck.objects.create(plate="A", load=1)
    truck.plate = "B"
    truck.save()
    truck.delete()
    rows = list(Animal.objects.order_by("pk").values_list("name", "keeper__name", "foods__name"))
    events = Event.objects.exclude(kind="control").order_by("pk").values_list("stream", "kind", "changes")
    return [list(row) for row in rows], [[stream, kind, json.loads(changes)] for stream, kind, changes in events]


def ask() -> dict[str, Any]:
    """Return the results of other code that uses private names."""
    from django.contrib.sessions.backends import db
    from django.core.exceptions import ValidationError
    from django.test import override_settings

    from declbind.inbound.permissions import keeps_sessions
    from declbind.outbound.relay import make_layer
    from declbind.value_validation import coerce
    from tests.zoo.models import Sample

    try:
        moment = str(coerce(Sample._meta.get_field("moment"), "2001-02-03T04:05:06Z"))
    except (ValidationError, ValueError) as error:
        moment = type(error).__name__
    layers = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    with override_settings(CHANNEL_LAYERS=layers):
        layer = make_layer()
    return {
        "keeps sessions": keeps_sessions(db.SessionStore),
        "moment": moment,
        "layer": type(layer).__name__,
    }


def run(case: dict[str, object], prepared: str) -> dict[str, object]:
    """Run the course in a process of its own, with a copy of a database."""
    folder = tempfile.mkdtemp()
    database = shutil.copy(prepared, folder)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - it is open until the process ends
        try:
            said = take(case, f"sqlite:///{database}")
        except BaseException as error:
            places = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
            said = {"error": f"{type(error).__name__}: {error} ({', '.join(places)})"}
        with os.fdopen(writing, "w") as pipe:
            json.dump(said, pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    shutil.rmtree(folder)
    found: dict[str, object] = json.loads(text)
    return found


if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(json.dumps(run(json.loads(line), sys.argv[1])) + "\n")
        sys.stdout.flush()
