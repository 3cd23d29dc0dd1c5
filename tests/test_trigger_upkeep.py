"""The upkeep of triggers: their status, their installation and removal, migrations, and the command."""

import io
import json

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import OperationalError, connection, models
from django.db.migrations import Migration
from django.db.models.signals import post_migrate, pre_migrate

from declbind.console import doctor, unseen
from declbind.outbound.triggers import migrating, upkeep
from declbind.registry import get_registry
from declbind.testing import capture_events, override_bindings
from tests.trigger_marks import KEEPERS, TRUCKS, run
from tests.zoo.models import Keeper

pytestmark = [pytest.mark.django_db, pytest.mark.needs_triggers]


# upkeep -------------------------------------------------------------------------------------------------------------


def states():
    return {state.table: (state.state, state.unmarked) for state in upkeep.load_states("default")}


def test_status_before_during_and_after_installation():
    """The states are missing, installed, left over, and none."""
    every = ("insert", "update", "delete")
    with override_bindings(TRUCKS):
        assert {table: state for table, (state, _) in states().items()} == {
            "zoo_truck": "missing",
            "zoo_vehicle": "missing",
        }
        assert set(every) <= set(states()["zoo_truck"][1])
        upkeep.install("default")
        assert set(states().values()) == {("installed", ())}
    with override_bindings():
        assert set(states().values()) == {("left over", ())}
        upkeep.install("default")
        assert states() == {}


def test_status_detects_changes_of_triggers():
    """A removed trigger, a binding that needs another column, and a disabled trigger are detected."""
    with override_bindings(KEEPERS):
        upkeep.install("default")
        name = "declbind_update" if connection.vendor == "postgresql" else "declbind_update_zoo_keeper"
        run(f"DROP TRIGGER {name}" + (" ON zoo_keeper" if connection.vendor == "postgresql" else ""))
        assert states() == {"zoo_keeper": ("missing", ("update",))}
        upkeep.install("default")
        if connection.vendor == "postgresql":
            run("ALTER TABLE zoo_keeper DISABLE TRIGGER declbind_insert")
            assert states() == {"zoo_keeper": ("disabled", ("insert",))}
            upkeep.install("default")
    with override_bindings({**KEEPERS, "fields": ["name"]}):
        assert states() == {"zoo_keeper": ("outdated", ())}
        upkeep.install("default")
        assert states() == {"zoo_keeper": ("installed", ())}


def test_installing_resyncs_all_subscribers():
    """Earlier writes may not have been captured."""
    with override_bindings(KEEPERS):
        with capture_events() as events:
            upkeep.install("default")
            upkeep.install("default")
        assert [event.changes for event in events] == [[("*", "resync")]]


def test_outdated_triggers_still_report_all_columns():
    """A column that a mark lacks is read from the row as it is now."""
    ann = Keeper.objects.create(name="Ann")
    with override_bindings({**KEEPERS, "fields": ["name"]}):
        upkeep.install("default")
    with override_bindings(KEEPERS):
        with capture_events() as events:
            run("UPDATE zoo_keeper SET name = 'x' WHERE id = %s", ann.pk)
        assert [event.data for event in events] == [{"name": "x", "retired": False}]


# migrations ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def thing():
    """Return a model whose table migrations create and change, with an app's state for them."""

    class Thing(models.Model):
        name = models.CharField(max_length=20)
        colour = models.CharField(max_length=20, default="red")
        size = models.IntegerField(default=0)

        class Meta:
            app_label = "zoo"

    with connection.schema_editor() as editor:
        editor.create_model(Thing)
    yield Thing
    with connection.schema_editor() as editor:
        editor.delete_model(Thing)
    del apps.all_models["zoo"]["thing"]
    apps.clear_cache()


def migrate(operation):
    """Run an operation as ``migrate`` does, between its two signals."""
    config = apps.get_app_config("zoo")
    plan = [(Migration("0001_thing", "zoo"), False)]
    pre_migrate.send(sender=config, app_config=config, using="default", plan=plan, apps=apps, verbosity=0)
    with connection.schema_editor() as editor:
        operation(editor)
    post_migrate.send(sender=config, app_config=config, using="default", plan=plan, apps=apps, verbosity=0)


THINGS = {"stream": "things", "model": "zoo.Thing", "fields": ["name", "colour"], "capture": "triggers"}


@pytest.mark.django_db(transaction=True)
def test_a_column_that_triggers_use_can_be_removed(thing):
    """On SQLite a trigger would prevent it. The other columns get triggers again, and clients a resync."""
    row = thing.objects.create(name="a")
    with override_bindings(THINGS):
        upkeep.install("default")
        colour = thing._meta.get_field("colour")
        with capture_events() as events:
            migrate(lambda editor: editor.remove_field(thing, colour))
    with override_bindings({**THINGS, "fields": ["name"]}):
        before = states()["zoo_thing"][0]
        upkeep.install("default")
        with capture_events() as heard:
            run("UPDATE zoo_thing SET name = 'b' WHERE id = %s", row.pk)
        upkeep.remove("default")
    assert [event.data for event in heard] == [{"name": "b"}]
    assert before == "outdated"
    if connection.vendor == "sqlite":
        assert [event.changes for event in events] == [[("*", "resync")]]


@pytest.mark.django_db(transaction=True)
def test_without_the_signals_a_column_cannot_be_removed(thing, monkeypatch):
    """Control: without the signals the migration fails on SQLite, and only there."""
    monkeypatch.setattr(migrating, "take_out", lambda **kwargs: None)
    with override_bindings(THINGS):
        upkeep.install("default")
        with connection.schema_editor() as editor:
            colour = thing._meta.get_field("colour")
            if connection.vendor == "sqlite":
                with pytest.raises(OperationalError):
                    editor.remove_field(thing, colour)
            else:
                editor.remove_field(thing, colour)
        upkeep.remove("default")


@pytest.mark.django_db(transaction=True)
def test_a_recreated_table_gets_its_triggers_again(thing):
    """Otherwise `status` reports it: a migration without the signals silently loses SQLite's triggers."""
    size = thing._meta.get_field("size")
    wider = models.CharField(max_length=20, null=True)
    wider.set_attributes_from_name("size")
    wider.model = thing
    with override_bindings(THINGS):
        upkeep.install("default")
        migrate(lambda editor: editor.alter_field(thing, size, wider))
        assert states()["zoo_thing"][0] == "installed"
        with connection.schema_editor() as editor:
            editor.alter_field(thing, wider, size)
        lost = connection.vendor == "sqlite"
        assert states()["zoo_thing"][0] == ("missing" if lost else "installed")
        upkeep.remove("default")


# the command --------------------------------------------------------------------------------------------------------


def command(*arguments):
    """Run the verb; return its output and its status."""
    printed = io.StringIO()
    try:
        call_command("declbind", "triggers", *arguments, stdout=printed)
    except SystemExit as error:
        return printed.getvalue(), error.code
    return printed.getvalue(), 0


def test_the_command_shows_installs_and_removes_triggers():
    """Status 1 while a write may be missed. JSON for programs. It can print the statements without running them."""
    with override_bindings(KEEPERS):
        text, status = command()
        assert status == 1
        assert "zoo_keeper  missing" in text
        assert "triggers --install" in text
        text, status = command("--sql")
        assert status == 0
        assert "CREATE TRIGGER" in text
        assert states()["zoo_keeper"][0] == "missing"
        assert command("--install")[1] == 0
        text, status = command("--status", "--format", "json")
        assert json.loads(text) == {
            "ok": True,
            "tables": [{"table": "zoo_keeper", "state": "installed", "unmarked": [], "streams": ["keepers"]}],
        }
        assert command("--remove")[1] == 0
        assert states()["zoo_keeper"][0] == "missing"


def test_show_and_doctor_report_gaps():
    """A gap in intended capture is a fault; another gap is a note."""
    with override_bindings({**KEEPERS, "capture": "orm"}):
        binding = get_registry().by_stream["keepers"]
        assert [gap.is_fault for gap in unseen.find_gaps(binding, "default")] == [False]
        assert [finding.level for finding in doctor._capture("default")] == ["ok"]
    with override_bindings(KEEPERS):
        binding = get_registry().by_stream["keepers"]
        first = unseen.find_gaps(binding, "default")[0]
        assert first.is_fault
        assert "zoo_keeper" in first.text
        finding = next(doctor._capture("default"))
        assert (finding.level, finding.action) == ("bad", str(unseen.INSTALL))
        upkeep.install("default")
        assert [finding.level for finding in doctor._capture("default")] == ["ok"]
        upkeep.remove("default")
