"""Edits of binding records: revisions, versions, signals, rollbacks, and the registry after an edit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from pytest_django import Settings

from declbind import signals
from declbind.models import BindingRecord, BindingRevision, editing
from declbind.registry import get_registry, refresh
from tests.stored_records import GROUPS, NAME_TEXT, fresh_registry, record, revisions, spoil, stored, undone, version

__all__ = ["fresh_registry"]

pytestmark = pytest.mark.django_db


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
    edit: Callable[[object], object], expected: list[tuple[str, str | None]]
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


def _changed(pk: object, **values: object) -> BindingRecord:
    found: BindingRecord = BindingRecord.objects.get(pk=pk)
    for name, value in values.items():
        setattr(found, name, value)
    return found


def test_the_signal_has_the_definitions_before_and_after() -> None:
    """configuration_edited has both definitions of every stream that the edit touched, a renamed one twice."""
    pk = stored().pk
    heard: list[dict[str, object]] = []

    def listen(*, changes: dict[str, object], **kwargs: object) -> None:
        heard.append(changes)

    signals.configuration_edited.connect(listen)
    try:
        _changed(pk, stream="other").save()
    finally:
        signals.configuration_edited.disconnect(listen)
    assert heard == [{"groups": (GROUPS, None), "other": (None, {**GROUPS, "stream": "other"})}]


def test_a_revision_names_its_author_and_the_note() -> None:
    """editing() sets who made the edit and why, inside its block only."""
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
def test_a_rolled_back_edit_leaves_no_trace(fresh_registry: None) -> None:
    """Version, revisions and registry are unchanged after a rolled-back savepoint or transaction."""
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


def test_one_bad_record_of_a_hundred_does_not_affect_the_others(
    fresh_registry: None, tmp_path: Path, settings: Settings
) -> None:
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


def test_a_record_that_became_invalid_does_not_affect_the_others(fresh_registry: None) -> None:
    """A row that a migration has made invalid is reported and not in force. Other rows still work."""
    stored(stream="sound")
    spoil(stored().pk)
    registry = refresh(force=True)
    assert "sound" in registry.by_stream
    assert "groups" not in registry.by_stream
    [(entry, problem)] = registry.problems
    assert entry.where == "database record 'groups'"
    assert str(problem) == NAME_TEXT


def test_a_stream_of_two_sources_is_an_error_on_both(fresh_registry: None, tmp_path: Path, settings: Settings) -> None:
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

    def fail(using: str) -> object:
        raise OSError("no route to the database")

    with monkeypatch.context() as patch:
        patch.setattr("declbind.registry.read_version", fail)
        assert "groups" in refresh(force=True).by_stream
        assert "groups" in get_registry().by_stream


@pytest.mark.django_db(transaction=True)
def test_an_edit_rebuilds_only_what_it_changed() -> None:
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
