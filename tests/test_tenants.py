"""Databases whose backend switches schemas for tenants: no row of one tenant reaches the subscribers of another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.apps import apps
from django.db import connection, connections
from django.test.utils import override_settings

from declbind import checks, signals
from declbind.console import unseen
from declbind.models import Event
from declbind.outbound import log, sequencer, tenants
from declbind.outbound.triggers import upkeep
from declbind.record_validation import validate_document
from declbind.registry import get_registry
from declbind.testing import capture_events, override_bindings
from tests.captured_events import FED, KEEPERS
from tests.servers import ROOT
from tests.tenants.classes import Separate, separate
from tests.zoo.models import Animal, Food, Keeper, Truck

GROUPED = {**KEEPERS, "groups": ["named-{name}"]}
TRUCKS = {"stream": "trucks", "model": "zoo.Truck", "fields": ["plate", "load"], "groups": ["plate-{plate}"]}


@pytest.fixture
def switching(db: None) -> Iterator[None]:
    """Use a connection that switches schemas in this thread."""
    one: object = connections["default"]
    plain = type(one)
    one.__class__ = type("DatabaseWrapper", (plain,), {"set_schema": lambda self, name: None})
    yield
    one.__class__ = plain


def make_keeper() -> object:
    return Keeper.objects.create(name="Ann")


def save(keeper: Any) -> None:
    keeper.name = "Bea"
    keeper.save()


def save_loaded(keeper: Any) -> None:
    save(Keeper.objects.get(pk=keeper.pk))


def bulk_update(keeper: Any) -> None:
    keeper.name = "Bea"
    Keeper.objects.bulk_update([keeper], ["name"])


Write = Callable[[Keeper], object]

WRITES: dict[str, Write] = {
    "create": lambda keeper: Keeper.objects.create(name="Cid"),
    "save": save,
    "save_loaded": save_loaded,
    "update": lambda keeper: Keeper.objects.update(name="Bea"),
    "bulk_update": bulk_update,
    "bulk_create": lambda keeper: Keeper.objects.bulk_create([Keeper(name="Cid"), Keeper(name="Dan")]),
    "delete": lambda keeper: keeper.delete(),
    "delete_rows": lambda keeper: Keeper.objects.all().delete(),
    "raw_delete": lambda keeper: Keeper.objects.all()._raw_delete("default"),
}


@pytest.fixture
def failures() -> Iterator[list[tuple[str, Exception]]]:
    """Collect the reported faults of bindings."""
    found: list[tuple[str, Exception]] = []

    def note(*, stream, error, **kwargs):
        found.append((stream, error))

    signals.binding_failed.connect(note)
    yield found
    signals.binding_failed.disconnect(note)


def told(events: Any) -> list[object]:
    return [(event.stream, event.kind, event.changes, event.data) for event in events]


def resync_of(stream: str) -> object:
    return stream, Event.BULK, [("*", "resync")], {}


def check_that_no_row_is_sent(write: Any, failures: Any) -> None:
    keeper = make_keeper()
    failures.clear()
    with override_bindings(GROUPED), capture_events() as events:
        write(keeper)
    assert told(events) == [resync_of("keepers")]
    assert [(stream, type(error)) for stream, error in failures] == [("keepers", tenants.MixedTenantsError)]


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_each_write_is_one_resync_and_one_fault(write: Write, switching: None, failures: object) -> None:
    """This holds for each way to write, and the write succeeds."""
    check_that_no_row_is_sent(write, failures)


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_rows_that_are_mixed_would_be_caught(
    write: Write, switching: None, failures: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: a variant that treats the database as one without tenants."""
    monkeypatch.setattr(tenants, "are_mixed", lambda using: False)
    with pytest.raises(AssertionError):
        check_that_no_row_is_sent(write, failures)


def test_lists_and_children_send_no_row_either(switching: None) -> None:
    """Their changes are resyncs too."""
    animal, food = Animal.objects.create(name="Owl"), Food.objects.create(name="mice")
    with override_bindings(FED, TRUCKS), capture_events() as events:
        animal.foods.add(food)
        animal.foods.set([])
        truck = Truck.objects.create(plate="A", load=1)
        truck.delete()
    assert told(events) == [resync_of("fed"), resync_of("fed"), resync_of("trucks"), resync_of("trucks")]


def test_a_write_succeeds_without_access_to_the_log(switching: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables of the log are not on the search path."""
    monkeypatch.setattr(log, "insert", lambda drafts, connection: run("SELECT * FROM of_no_such_table"))
    with override_bindings(GROUPED):
        keeper = make_keeper()
        save(keeper)
    assert list(Keeper.objects.values_list("name", flat=True)) == ["Bea"]


def run(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def give_numbers() -> None:
    """Make the events of marks, and number all events."""
    sequencer.settle("default")
    while sequencer.sequence("default"):
        pass


@pytest.mark.needs_triggers
@pytest.mark.django_db(transaction=True)
def test_triggers_send_no_row_either(switching: None, failures: Any) -> None:
    """A mark does not contain the schema of its row."""
    with override_bindings({**GROUPED, "capture": "triggers"}):
        upkeep.install("default")
        try:
            give_numbers()
            before = log.load_head("default").offset
            run("INSERT INTO zoo_keeper (name, retired) VALUES ('Ann', '0')")
            failures.clear()
            give_numbers()
            found = [event for event in log.read(before, 100, "default") if event.kind != Event.CONTROL]
        finally:
            upkeep.remove("default")
    assert [(event.stream, event.kind, event.changes) for event in found] == [
        ("keepers", Event.BULK, (("*", "resync"),))
    ]
    assert [stream for stream, _ in failures] == ["keepers"]


# What is said of it --------------------------------------------------------------------------------------------------


def test_the_check_names_the_database(switching: None) -> None:
    """It reports nothing if the settings say how tenants are distinguished."""
    [message] = checks.check_tenants()
    assert message.id == "declbind.E008"
    assert message.msg.startswith("DATABASES['default'] has the backend ")
    assert message.hint is not None
    assert 'DECLBIND["TENANT"]' in message.hint
    with override_settings(DECLBIND=separate("Named")):
        assert checks.check_tenants() == []
        assert checks.check_settings() == []
    with override_settings(DECLBIND={"TENANT": 1}):
        assert [found.id for found in checks.check_settings()] == ["declbind.E003"]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("tests.no_such.Class", "expected the dotted path of a class, got 'tests.no_such.Class'"),
        ("tests.tenants.classes.nothing", "does not define a"),
        ("tests.tenants.classes.Lacking", "expected a class with of_connection(), activate(), got"),
        ("tests.tenants.classes.inside", "expected a class with of_connection(), of_scope(), activate(), got"),
    ],
)
def test_a_class_that_cannot_be_used_is_an_error(path: str, text: str) -> None:
    with override_settings(DECLBIND={"TENANT": path}):
        [message] = checks.check_tenants()
    assert message.id == "declbind.E012"
    assert text in message.msg
    assert message.hint is not None


def test_the_checks_find_tables_and_sessions_in_the_wrong_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of declbind must be shared, and sessions must be where users are."""

    def ids() -> list[str]:
        with override_settings(DECLBIND=separate()):
            return [str(message.id) for message in checks.check_tenants()]

    own, users = {"declbind.event"}, {"auth.user"}
    for shared, found in (
        (set(), ["declbind.E013"]),
        (own, []),
        (own | {"sessions.session"}, ["declbind.W023"]),
        (own | users | {"sessions.session"}, []),
    ):
        monkeypatch.setattr(Separate, "shared", frozenset(shared))
        assert ids() == found
    monkeypatch.setattr(Separate, "shared", frozenset(own))
    for engine in ("signed_cookies", "cache", "cached_db", "file"):
        with override_settings(SESSION_ENGINE=f"django.contrib.sessions.backends.{engine}"):
            assert ids() == ["declbind.W023"]
    caches = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "KEY_FUNCTION": "shop.keys.make"}}
    for engine in ("cache", "cached_db"):
        with override_settings(SESSION_ENGINE=f"django.contrib.sessions.backends.{engine}", CACHES=caches):
            assert ids() == []


@pytest.mark.parametrize("path", ["writable", "relate"])
def test_relations_that_clients_write_need_a_rule(path: str) -> None:
    """With tenants as with a scope, `relate` is required."""
    record = {"stream": "animals", "model": "zoo.Animal", "fields": ["name", "keeper"]}
    ruled = {**record, "writable": ["name"]} if path == "writable" else {**record, "relate": {"keeper": "any"}}
    with override_settings(DECLBIND=separate()):
        assert [problem.path for problem in validate_document(record)[1]] == ["$.relate"]
        assert validate_document(ruled)[1] == []
    assert validate_document(record)[1] == []


def test_triggers_are_refused_with_tenants() -> None:
    record = {**KEEPERS, "capture": "triggers"}
    with override_settings(DECLBIND=separate()):
        assert [problem.path for problem in validate_document(record)[1]] == ["$.capture"]
    assert validate_document(record)[1] == []


@pytest.mark.django_db
def test_the_page_of_a_binding_reports_the_missing_setting(switching: None) -> None:
    with override_bindings(GROUPED):
        [first, *_] = unseen.find_gaps(get_registry().by_stream["keepers"], "default")
    assert first.is_fault
    assert "switches schemas" in first.text


@pytest.mark.django_db
def test_nothing_is_reported_for_a_plain_database() -> None:
    """Negative control: the backend does not switch schemas."""
    assert checks.check_tenants() == []
    assert not tenants.are_mixed("default")


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("django_tenants", True),
        ("tenant_schemas.apps", True),
        ("django_pgschemas", True),
        ("django_tenants_celery_beat", True),
        ("django_tenantsx", False),
        ("shop.django_tenants", False),
    ],
)
def test_an_installed_app_is_recognised_by_its_package(
    name: str, is_one: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apps, "get_app_configs", lambda: [SimpleNamespace(name="declbind"), SimpleNamespace(name=name)])
    found = checks.check_tenants()
    assert [message.id for message in found] == (["declbind.E008"] if is_one else [])


def test_a_backend_is_recognised_by_its_methods_or_its_package() -> None:
    """This holds for backends with any base class."""
    of_package = type("Wrapper", (), {"__module__": "django_pgschemas.postgresql.base"})
    assert tenants._switches(type("Own", (of_package,), {}))
    assert tenants._switches(type("Tenants", (), {"set_tenant": lambda self: None}))
    assert not tenants._switches(type("Plain", (), {"set_schema": "no method"}))


# Schemas of PostgreSQL -----------------------------------------------------------------------------------------------


def take_course(database: str, *arguments: str) -> dict[str, Any]:
    env = {key: value for key, value in os.environ.items() if not key.startswith(("DATABASE", "TEST_", "PYTEST"))}
    env |= {"DJANGO_SETTINGS_MODULE": "tests.tenant_backend.settings", "DATABASE_URL": database}
    code = [sys.executable, "-W", "ignore", "-m", "tests.tenant_backend.course", *arguments]
    ran = subprocess.run(code, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    said: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return said


def test_rows_of_two_schemas_are_not_sent(postgres_database: str) -> None:
    """The log is found from a schema without it, and a write succeeds where the log cannot be found."""
    said = take_course(postgres_database)
    assert said["checks"] == ["declbind.E008"]
    assert said["events"] == [["keepers", Event.BULK, [["*", "resync"]], "{}"]] * 6
    assert said["faults"] == 6
    assert said["events alone"] == []
    assert said["failure"] == ""
    assert said["rows"] == {"acme": ["again of acme", "alone", "alone too"], "beta": ["again of beta"], "public": []}


def test_a_missing_guard_would_be_caught(postgres_database: str) -> None:
    """Negative control: subscribers get rows of both schemas, and a write fails where the log cannot be found."""
    said = take_course(postgres_database, "mixing")
    texts = " ".join(data for _, _, _, data in said["events"])
    assert "of acme" in texts
    assert "of beta" in texts
    assert 'relation "declbind_event" does not exist' in said["failure"]
