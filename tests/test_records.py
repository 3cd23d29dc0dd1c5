"""The validation of binding records in every way in which they are stored."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import models, transaction

from declbind.models import BindingRecord, record_signals
from tests.stored_records import (
    BAD_NAME,
    BAD_SHAPE,
    GROUPS,
    NAME_TEXT,
    SHAPE_TEXT,
    Document,
    record,
    revisions,
    spoil,
    stored,
    version,
)

pytestmark = pytest.mark.django_db


# Ways in ----------------------------------------------------------------------------------------------------


def enter_by_full_clean(document: Document, folder: Path) -> None:
    BindingRecord().assign(document).full_clean()


def enter_by_save(document: Document, folder: Path) -> None:
    BindingRecord().assign(document).save()


def enter_by_create(document: Document, folder: Path) -> None:
    BindingRecord.objects.create(**document)


def enter_by_bulk_create(document: Document, folder: Path) -> None:
    other = {**GROUPS, "stream": "sound"}
    BindingRecord.objects.bulk_create([BindingRecord().assign(each) for each in (other, document)])


def enter_by_bulk_update(document: Document, folder: Path) -> None:
    with transaction.atomic():
        saved = stored()
        BindingRecord.objects.bulk_update([saved.assign(document)], ["fields", "direction"])


def enter_by_update(document: Document, folder: Path) -> None:
    with transaction.atomic():
        stored()
        BindingRecord.objects.filter(stream="groups").update(**document)


def enter_by_update_fields(document: Document, folder: Path) -> None:
    with transaction.atomic():
        stored().assign(document).save(update_fields=["fields", "direction"])


def enter_by_fixture(document: Document, folder: Path) -> None:
    path = folder / "records.json"
    path.write_text(json.dumps([{"model": "declbind.bindingrecord", "fields": document}]))
    call_command("loaddata", str(path), verbosity=0)


def enter_by_apply(document: Document, folder: Path) -> None:
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
Way = Callable[[Document, Path], None]


@each_way
@pytest.mark.parametrize(("document", "text"), [(BAD_SHAPE, SHAPE_TEXT), (BAD_NAME, NAME_TEXT)])
def test_no_way_to_store_accepts_an_invalid_record(enter: Way, document: Document, text: str, tmp_path: Path) -> None:
    """Every way to store a record validates it, and a refused call stores nothing."""
    with pytest.raises((ValidationError, CommandError)) as caught:
        enter(document, tmp_path)
    said = caught.value.messages if isinstance(caught.value, ValidationError) else [str(caught.value)]
    assert text in "\n".join(said)
    assert not BindingRecord.objects.exists()
    assert revisions() == []
    assert version() == 0


@each_way
def test_every_way_to_store_accepts_a_valid_record(enter: Way, tmp_path: Path) -> None:
    """A valid record is accepted in every way."""
    enter(GROUPS, tmp_path)
    if enter is not enter_by_full_clean:
        assert BindingRecord.objects.get(stream="groups").definition() == GROUPS


@pytest.mark.parametrize("enter", [enter_by_save, enter_by_fixture])
def test_a_save_without_the_validation_would_store_it(enter: Way, tmp_path: Path) -> None:
    """Negative control: without the validation, a bad record is stored."""
    arguments: dict[str, Any] = {"sender": BindingRecord, "dispatch_uid": "declbind.validate"}
    assert models.signals.pre_save.disconnect(**arguments)
    try:
        enter(BAD_NAME, tmp_path)
    finally:
        record_signals.connect()
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


def test_a_stream_is_unique() -> None:
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
    """A fixture without primary keys edits the row of its stream, and `dumpdata` writes such a fixture."""
    stored()
    enter_by_fixture({**GROUPS, "description": "second"}, tmp_path)
    assert BindingRecord.objects.get().description == "second"
    out = tmp_path / "out.json"
    call_command("dumpdata", "declbind.bindingrecord", natural_primary=True, output=str(out), verbosity=0)
    written = json.loads(out.read_text())
    assert ["pk" in item for item in written] == [False]
    assert written[0]["fields"]["stream"] == "groups"


# What the validation looks at --------------------------------------------------------------------------------


def test_a_partial_save_is_validated_with_the_rest_of_the_row() -> None:
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


def test_bulk_update_is_validated_with_the_rest_of_the_rows() -> None:
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
def test_a_record_that_became_invalid_can_be_disabled(disable: Callable[[object], object]) -> None:
    """A record that has become invalid can be disabled or removed in every way."""
    pk = stored().pk
    spoil(pk)
    disable(pk)
    assert not BindingRecord.objects.filter(enabled=True).exists()
    assert len(revisions()) == 2


def _disabled(pk: object) -> BindingRecord:
    found: BindingRecord = BindingRecord.objects.get(pk=pk)
    found.enabled = False
    return found


def test_a_record_that_became_invalid_can_only_be_disabled() -> None:
    """Neither another edit at the same time nor enabling it again is accepted."""
    pk = stored().pk
    spoil(pk)
    with pytest.raises(ValidationError, match="naem"), transaction.atomic():
        BindingRecord.objects.filter(pk=pk).update(enabled=False, description="and more")
    BindingRecord.objects.filter(pk=pk).update(enabled=False)
    with pytest.raises(ValidationError, match="naem"), transaction.atomic():
        BindingRecord.objects.filter(pk=pk).update(enabled=True)
