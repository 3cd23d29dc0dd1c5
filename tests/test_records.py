"""The validation of binding records on every way into the database, and the record of every edit."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import connection, models, transaction

from declbind import signals
from declbind.models import BindingRecord, BindingRevision, Configuration, editing
from declbind.models import record as record_module
from declbind.registry import get_registry, refresh

GROUPS = {"stream": "groups", "model": "auth.Group", "fields": ["name"], "permissions": {"view": True}}
BAD_SHAPE = {"stream": "groups", "model": "auth.Group", "fields": ["name"], "direction": "sideways"}
BAD_NAME = {"stream": "groups", "model": "auth.Group", "fields": ["naem"]}
SHAPE_TEXT = """$.direction: Expected "both", "outbound" or "inbound", got 'sideways'."""
NAME_TEXT = "$.fields[0]: Binding 'groups': field 'naem' does not exist on auth.Group. Did you mean 'name'?"

pytestmark = pytest.mark.django_db


def record(**changes: Any) -> BindingRecord:
    return BindingRecord().assign({**GROUPS, **changes})


def stored(**changes: Any) -> BindingRecord:
    saved = record(**changes)
    saved.save()
    return saved


def spoil(pk: Any) -> None:
    """Make a stored record invalid without validation, like a migration that renames a field."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE declbind_bindingrecord SET fields = %s WHERE id = %s", ['["naem"]', pk])


def version() -> int:
    found = Configuration.objects.first()
    return found.version if found else 0


def revisions() -> list[tuple[str, Any]]:
    return list(BindingRevision.objects.order_by("id").values_list("stream", "definition"))


@contextlib.contextmanager
def undone() -> Iterator[None]:
    """Run the block in a transaction (in a savepoint, inside another one) and roll it back."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


@pytest.fixture
def fresh_registry() -> Iterator[None]:
    """Start from the state of the database, and leave no registry of this test behind."""
    refresh(force=True)
    yield
    refresh(force=True)


# Ways in ----------------------------------------------------------------------------------------------------


def enter_by_full_clean(document: dict[str, Any], folder: Path) -> None:
    BindingRecord().assign(document).full_clean()


def enter_by_save(document: dict[str, Any], folder: Path) -> None:
    BindingRecord().assign(document).save()


def enter_by_create(document: dict[str, Any], folder: Path) -> None:
    BindingRecord.objects.create(**document)


def enter_by_bulk_create(document: dict[str, Any], folder: Path) -> None:
    other = {**GROUPS, "stream": "sound"}
    BindingRecord.objects.bulk_create([BindingRecord().assign(each) for each in (other, document)])


def enter_by_bulk_update(document: dict[str, Any], folder: Path) -> None:
    with transaction.atomic():
        saved = stored()
        BindingRecord.objects.bulk_update([saved.assign(document)], ["fields", "direction"])


def enter_by_update(document: dict[str, Any], folder: Path) -> None:
    with transaction.atomic():
        stored()
        BindingRecord.objects.filter(stream="groups").update(**document)


def enter_by_update_fields(document: dict[str, Any], folder: Path) -> None:
    with transaction.atomic():
        stored().assign(document).save(update_fields=["fields", "direction"])


def enter_by_fixture(document: dict[str, Any], folder: Path) -> None:
    path = folder / "records.json"
    path.write_text(json.dumps([{"model": "declbind.bindingrecord", "fields": document}]))
    call_command("loaddata", str(path), verbosity=0)


def enter_by_apply(document: dict[str, Any], folder: Path) -> None:
    path = folder / "records.json"
    path.write_text(json.dumps(document))
    call_command("declbind", "apply", "--yes", str(path))


WAYS = [
    enter_by_full_clean,
    enter_by_save,
    enter_by_create,
    enter_by_bulk_create,
    enter_by_bulk_update,
    enter_by_update,
    enter_by_update_fields,
    enter_by_fixture,
    enter_by_apply,
]
each_way = pytest.mark.parametrize("enter", WAYS)
Way = Callable[[dict[str, Any], Path], None]


@each_way
@pytest.mark.parametrize(("document", "text"), [(BAD_SHAPE, SHAPE_TEXT), (BAD_NAME, NAME_TEXT)])
def test_no_way_in_takes_a_bad_record(enter: Way, document: dict[str, Any], text: str, tmp_path: Path) -> None:
    """Every way to store a record validates it, and a refused call stores nothing."""
    with pytest.raises((ValidationError, CommandError)) as caught:
        enter(document, tmp_path)
    said = caught.value.messages if isinstance(caught.value, ValidationError) else [str(caught.value)]
    assert text in "\n".join(said)
    assert not BindingRecord.objects.exists()
    assert revisions() == []
    assert version() == 0


@each_way
def test_every_way_in_takes_a_good_record(enter: Way, tmp_path: Path) -> None:
    """A valid record is accepted in every way."""
    enter(GROUPS, tmp_path)
    if enter is not enter_by_full_clean:
        assert BindingRecord.objects.get(stream="groups").definition() == GROUPS


@pytest.mark.parametrize("enter", [enter_by_save, enter_by_fixture])
def test_a_save_without_the_judgement_would_take_it(enter: Way, tmp_path: Path) -> None:
    """Negative control: without the validation, a bad record is stored."""
    arguments: dict[str, Any] = {"sender": BindingRecord, "dispatch_uid": "declbind.validate"}
    assert models.signals.pre_save.disconnect(**arguments)
    try:
        enter(BAD_NAME, tmp_path)
    finally:
        models.signals.pre_save.connect(record_module._validate_before_save, **arguments)
    assert BindingRecord.objects.get().problems() != []


def test_problems_stand_under_the_keys_of_the_record() -> None:
    """full_clean() reports each problem under its key, with the JSON path in the text."""
    faulty = record(fields=None, groups=["room-{colour}"], serializer="shiny")
    with pytest.raises(ValidationError) as caught:
        faulty.full_clean()
    assert set(caught.value.message_dict) == {"fields"}
    faulty.fields = ["name"]
    with pytest.raises(ValidationError) as caught:
        faulty.full_clean()
    assert set(caught.value.message_dict) == {"groups", "serializer"}
    assert caught.value.message_dict["groups"][0].startswith("$.groups[0]: Binding 'groups': field 'colour'")


def test_a_stream_is_taken_once() -> None:
    """Two rows, two records of one call, and a row beside a Python class: each is refused under the stream."""
    stored()
    for attempt in (
        lambda: stored(),
        lambda: BindingRecord.objects.bulk_create([record(stream="x"), record(stream="x")]),
        lambda: stored(stream="intval"),
    ):
        with pytest.raises(ValidationError) as caught:
            attempt()
        assert set(caught.value.message_dict) == {"stream"}
    assert caught.value.messages[0] == (
        "$.stream: Binding 'intval': the stream is already defined by "
        "example_site.example.bindings.IntegerValueBinding. Choose another name, or take that binding over."
    )


def test_a_fixture_finds_its_record_by_the_stream(tmp_path: Path) -> None:
    """A fixture without primary keys edits the row of its stream, and dumpdata writes such a fixture."""
    stored()
    enter_by_fixture({**GROUPS, "description": "second"}, tmp_path)
    assert BindingRecord.objects.get().description == "second"
    out = tmp_path / "out.json"
    call_command("dumpdata", "declbind.bindingrecord", natural_primary=True, output=str(out), verbosity=0)
    written = json.loads(out.read_text())
    assert ["pk" in item for item in written] == [False]
    assert written[0]["fields"]["stream"] == "groups"


# What the validation looks at --------------------------------------------------------------------------------


def test_a_partial_save_is_judged_by_what_the_row_will_hold() -> None:
    """With update_fields, only the stored fields of the instance count, together with the rest of the row."""
    saved = stored()
    saved.fields = ["naem"]
    saved.description = "half"
    saved.save(update_fields=["description"])
    assert revisions()[-1] == ("groups", {**GROUPS, "description": "half"})

    spoil(saved.pk)
    saved.fields = ["name"]
    with pytest.raises(ValidationError, match="naem"):
        saved.save(update_fields=["description"])


def test_bulk_update_is_judged_by_what_the_rows_hold() -> None:
    """The same holds for bulk_update: the revision has the stored values, not other values of the instance."""
    saved = stored()
    saved.fields, saved.description = ["naem"], "half"
    BindingRecord.objects.bulk_update([saved], ["description"])
    assert revisions()[-1] == ("groups", {**GROUPS, "description": "half"})


@pytest.mark.parametrize(
    "disable",
    [
        lambda pk: BindingRecord.objects.filter(pk=pk).update(enabled=False),
        lambda pk: _disabled(pk).save(),
        lambda pk: _disabled(pk).save(update_fields=["enabled"]),
        lambda pk: BindingRecord.objects.bulk_update([_disabled(pk)], ["enabled"]),
        lambda pk: BindingRecord.objects.get(pk=pk).delete(),
    ],
    ids=["update", "save", "update_fields", "bulk_update", "delete"],
)
def test_a_record_gone_bad_can_be_switched_off(disable: Callable[[Any], Any]) -> None:
    """A record that has become invalid can be disabled or removed in every way."""
    pk = stored().pk
    spoil(pk)
    disable(pk)
    assert not BindingRecord.objects.filter(enabled=True).exists()
    assert len(revisions()) == 2


def _disabled(pk: Any) -> BindingRecord:
    found: BindingRecord = BindingRecord.objects.get(pk=pk)
    found.enabled = False
    return found


def test_a_record_gone_bad_can_be_nothing_but_switched_off() -> None:
    """Neither another edit at the same time nor enabling it again is accepted."""
    pk = stored().pk
    spoil(pk)
    with pytest.raises(ValidationError, match="naem"), transaction.atomic():
        BindingRecord.objects.filter(pk=pk).update(enabled=False, description="and more")
    BindingRecord.objects.filter(pk=pk).update(enabled=False)
    with pytest.raises(ValidationError, match="naem"), transaction.atomic():
        BindingRecord.objects.filter(pk=pk).update(enabled=True)


# Revisions and the version --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda pk: BindingRecord.objects.filter(pk=pk).update(description="new"), [("groups", "new")]),
        (lambda pk: _changed(pk, description="new").save(), [("groups", "new")]),
        (
            lambda pk: BindingRecord.objects.bulk_update([_changed(pk, description="new")], ["description"]),
            [("groups", "new")],
        ),
        (lambda pk: BindingRecord.objects.get(pk=pk).delete(), [("groups", None)]),
        (lambda pk: BindingRecord.objects.filter(pk=pk).delete(), [("groups", None)]),
        (lambda pk: _changed(pk, stream="never-stored").delete(), [("groups", None)]),
        (lambda pk: BindingRecord.objects.bulk_create([record(stream="second")]), [("second", "")]),
        (lambda pk: stored(stream="second"), [("second", "")]),
        (lambda pk: BindingRecord.objects.filter(pk=pk).update(stream="other"), [("groups", None), ("other", "")]),
        (lambda pk: _changed(pk, stream="other").save(), [("groups", None), ("other", "")]),
        (
            lambda pk: BindingRecord.objects.bulk_update([_changed(pk, stream="other")], ["stream"]),
            [("groups", None), ("other", "")],
        ),
        (lambda pk: BindingRecord.objects.bulk_create([record()], ignore_conflicts=True), []),
        (
            lambda pk: BindingRecord.objects.bulk_create(
                [record(description="new"), record(stream="second")],
                update_conflicts=True,
                unique_fields=["stream"] if connection.features.supports_update_conflicts_with_target else None,
                update_fields=["description"],
            ),
            [("groups", "new"), ("second", "")],
        ),
        (lambda pk: BindingRecord.objects.filter(stream="nobody").update(description="new"), []),
    ],
    ids=[
        "update", "save", "bulk_update", "delete", "delete-many", "delete-renamed", "bulk_create", "create",
        "rename-update", "rename-save", "rename-bulk_update", "ignore_conflicts", "update_conflicts", "nothing",
    ],
)  # fmt: skip
def test_each_edit_leaves_revisions_and_raises_the_version(
    edit: Callable[[Any], Any], expected: list[tuple[str, str | None]]
) -> None:
    """Every kind of edit stores the new definition of each stream under one new version."""
    pk = stored().pk
    before, known = version(), len(revisions())
    edit(pk)
    written = [(stream, definition and definition.get("description", "")) for stream, definition in revisions()[known:]]
    assert written == expected
    assert version() == before + bool(expected)
    made = BindingRevision.objects.order_by("id")[known:]
    assert {revision.version for revision in made} <= {version()}


def _changed(pk: Any, **values: Any) -> BindingRecord:
    found: BindingRecord = BindingRecord.objects.get(pk=pk)
    for name, value in values.items():
        setattr(found, name, value)
    return found


def test_the_signal_tells_before_and_after() -> None:
    """configuration_edited has both definitions of every stream that the edit touched, a renamed one twice."""
    pk = stored().pk
    heard: list[dict[str, Any]] = []

    def listen(*, changes: dict[str, Any], **kwargs: Any) -> None:
        heard.append(changes)

    signals.configuration_edited.connect(listen)
    try:
        _changed(pk, stream="other").save()
    finally:
        signals.configuration_edited.disconnect(listen)
    assert heard == [{"groups": (GROUPS, None), "other": (None, {**GROUPS, "stream": "other"})}]


def test_a_revision_names_its_author_and_the_note() -> None:
    """editing() names who did it and why, inside its block only."""
    author = User.objects.create(username="operator")
    with editing(author, "for the launch"):
        saved = stored()
    saved.save()
    first, second = BindingRevision.objects.order_by("id")
    assert (first.author, first.note) == (author, "for the launch")
    assert (second.author, second.note) == (None, "")


# The registry -----------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_an_edit_is_seen_inside_its_transaction_first(fresh_registry: None) -> None:
    """Inside the transaction the registry has the edit. The registry of the process gets it at the commit."""
    outside = get_registry()
    with transaction.atomic():
        saved = stored()
        assert "groups" in get_registry().by_stream
        saved.enabled = False
        saved.save()
        assert "groups" not in get_registry().by_stream
        saved.enabled = True
        saved.save()
        assert get_registry() is not outside
        assert "groups" not in outside.by_stream
    assert "groups" in get_registry().by_stream
    assert get_registry().version == version()


@pytest.mark.django_db(transaction=True)
def test_a_rolled_back_edit_never_was(fresh_registry: None) -> None:
    """Neither the version nor a revision nor the registry keeps a trace of a rolled-back savepoint or transaction."""
    stored()
    before, known, registry = version(), revisions(), get_registry()
    with transaction.atomic():
        with undone():
            BindingRecord.objects.update(stream="other")
            assert set(get_registry().by_stream) >= {"other"}
        assert "groups" in get_registry().by_stream
        assert "other" not in get_registry().by_stream
    with undone():
        BindingRecord.objects.all().delete()
        assert "groups" not in get_registry().by_stream
    assert (version(), revisions()) == (before, known)
    assert get_registry() is registry


def test_an_edit_after_a_rolled_back_one_counts(fresh_registry: None) -> None:
    """An edit after a rolled-back one builds on the remaining state."""
    stored(stream="first")
    with undone():
        stored(stream="second")
    stored(stream="third")
    assert {"first", "third"} <= set(get_registry().by_stream)
    assert "second" not in get_registry().by_stream


def test_one_bad_record_of_a_hundred_spoils_only_itself(fresh_registry: None, tmp_path: Path, settings: Any) -> None:
    """If one of a hundred records in a file is invalid, the others work, and it is reported with its place."""
    documents = [{**GROUPS, "stream": f"s{number}"} for number in range(100)]
    documents[41]["fields"] = ["naem"]
    (tmp_path / "all.json").write_text(json.dumps(documents))
    settings.DECLBIND = {"RECORD_DIRS": [str(tmp_path)]}
    registry = refresh(force=True)
    assert sum(stream.startswith("s") for stream in registry.by_stream) == 99
    [(entry, problem)] = registry.problems
    assert (entry.stream, entry.where) == ("s41", f"{tmp_path}/all.json[41]")
    assert str(problem) == NAME_TEXT.replace("'groups'", "'s41'")


def test_a_record_gone_bad_leaves_the_others_working(fresh_registry: None) -> None:
    """A row that a migration has made invalid is reported and not in force. Other rows still work."""
    stored(stream="sound")
    spoil(stored().pk)
    registry = refresh(force=True)
    assert "sound" in registry.by_stream
    assert "groups" not in registry.by_stream
    [(entry, problem)] = registry.problems
    assert entry.where == "database record 'groups'"
    assert str(problem) == NAME_TEXT


def test_a_stream_of_two_sources_is_an_error_on_both(fresh_registry: None, tmp_path: Path, settings: Any) -> None:
    """If a file and a row have the same stream, neither wins, and each error names the other."""
    stored()
    (tmp_path / "one.json").write_text(json.dumps(GROUPS))
    settings.DECLBIND = {"RECORD_DIRS": [str(tmp_path)]}
    registry = refresh(force=True)
    assert "groups" not in registry.by_stream
    file, row = f"{tmp_path}/one.json", "database record 'groups'"
    assert {entry.where: str(problem) for entry, problem in registry.problems} == {
        here: f"$.stream: Binding 'groups' is defined twice: in {here} and in {there}. "
        "Neither is in force; rename or remove one."
        for here, there in ((file, row), (row, file))
    }


@pytest.mark.django_db(transaction=True)
def test_the_last_registry_stays_when_the_database_is_gone(
    fresh_registry: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that cannot read the records keeps those it has, even if all are to be loaded again."""
    stored()
    assert "groups" in get_registry().by_stream

    def fail(using: str) -> Any:
        raise OSError("no route to the database")

    with monkeypatch.context() as patch:
        patch.setattr("declbind.registry.read_version", fail)
        assert "groups" in refresh(force=True).by_stream
        assert "groups" in get_registry().by_stream


@pytest.mark.django_db(transaction=True)
def test_an_edit_builds_anew_only_what_it_changed() -> None:
    """The class of an unchanged record stays. A record that has become invalid is validated again."""
    BindingRecord.objects.create(stream="same", model="example.IntegerValue", fields=["name"])
    record = BindingRecord.objects.create(stream="other", model="example.IntegerValue", fields=["name"])
    before = refresh(force=True).by_stream
    record.fields = ["name", "value"]
    record.save()
    after = refresh().by_stream
    assert after["same"] is before["same"]
    assert after["other"] is not before["other"]
    assert [field.name for field in after["other"].bound_fields()] == ["name", "value"]
    BindingRecord.objects.filter(stream="other").delete()
    assert "other" not in refresh().by_stream
    assert refresh(force=True).by_stream["same"] is not before["same"]
