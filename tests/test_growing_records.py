"""Records that send all fields: fields that a migration adds wait until somebody accepts them."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import DatabaseError

from declbind import WebsocketBinding, growth, registry
from declbind.binding_classes import limit_binding
from declbind.console.consequences import consequences
from declbind.console.openings import find_openings
from declbind.core.spec import BindingSpec
from declbind.fields import bound_fields, find_model
from declbind.live.log_reader import LogReader
from declbind.models import Baseline, BindingRecord, BindingRevision, Configuration
from declbind.sources import baselines
from declbind.sources.baselines import definition_digest, find_baseline
from declbind.stored_rows import AnyRow

POST = {"stream": "posts", "model": "blog.Post", "exclude": ["body"], "permissions": {"view": "blog.view_post"}}


def grown(**more: object) -> BindingRecord:
    """Return a stored record of a model that has got ``author`` since."""
    record = BindingRecord().assign({**POST, **more})
    record.save()
    BindingRecord._base_manager.update(known=[name for name in record.known or () if name != "author"])
    Configuration.bump("default")
    found: BindingRecord = BindingRecord.objects.get()
    return found


def changed(record: BindingRecord, **values: object) -> BindingRecord:
    for name, value in values.items():
        setattr(record, name, value)
    return record


@pytest.mark.django_db
@pytest.mark.parametrize(
    "edit",
    [
        lambda record: record.save(),
        lambda record: record.assign({**POST, "description": "x"}).save(),
        lambda record: record.assign({**POST, "exclude": []}).save(),
        lambda record: record.assign({**POST, "exclude": None, "fields": "__all__"}).save(),
        lambda record: changed(record, enabled=False).save(update_fields=["enabled"]),
        lambda record: changed(record, exclude=[]).save(update_fields=["exclude"]),
        lambda record: changed(record, known=None).save(),
        lambda record: BindingRecord.objects.update(exclude=[], known=None),
        lambda record: BindingRecord.objects.bulk_update([changed(record, exclude=[])], ["exclude"]),
    ],
)
def test_no_edit_of_a_record_sends_a_waiting_field(edit: Any) -> None:
    """Whatever is edited, a field that waits to be accepted still waits."""
    record = grown()
    assert record.held() == ["author"]
    edit(record)
    stored = BindingRecord.objects.get()
    assert stored.held() == ["author"]
    revision = BindingRevision.objects.first()
    assert revision is not None
    assert (revision.known, revision.definition) == (stored.known, stored.definition())


@pytest.mark.django_db
def test_naming_a_field_sends_it() -> None:
    """A list of names is explicit, and so is grow; a rollback to either is explicit too."""
    record = grown()
    record.assign({**POST, "exclude": None, "fields": ["title", "author"]}).save()
    assert (record.known, record.held(), record.sent()) == (None, [], ["title", "author"])
    record.assign(POST).save()
    assert record.held() == []
    assert "author" in record.sent()


@pytest.mark.django_db
def test_accepting_is_reported_to_all_processes_as_a_widening() -> None:
    """It makes a version and a revision, and subscribers get a resync: the control event shows a widening."""
    from declbind.live.changes import shows_more
    from declbind.models import Event

    record = grown()
    version = Configuration.objects.get().version
    assert registry.refresh(force=True).by_stream["posts"].held_names() == ["author"]
    record.accept(["author"]).save()
    assert Configuration.objects.get().version == version + 1
    assert registry.get_registry().by_stream["posts"].held_names() == []
    content = json.loads(Event.objects.filter(kind=Event.CONTROL).latest("id").data)
    assert shows_more(*content["changes"]["posts"])


@pytest.mark.django_db
def test_naming_a_waiting_field_needs_the_permission_to_open_it() -> None:
    """Control: a comparison that ignores waiting fields finds no widening."""
    user = {"stream": "users", "model": "auth.User", "exclude": ["password"], "permissions": {"view": True}}
    named = {**user, "fields": ["username", "is_staff"]}
    del named["exclude"]
    wanted = {"declbind.bind_rights_models"}
    held = ["is_staff"]
    assert wanted <= {right for opening in find_openings(user, named, held=held) for right in opening.permissions}
    assert find_openings(user, named) == []
    widening = [item.text for item in consequences(user, named, held=held) if item.widens]
    assert widening == ["also sends is_staff", "also accepts is_staff"]
    assert find_openings(user, {**user, "description": "x"}, held=held) == []
    assert find_openings(user, user, held=held, accepted=held)


@pytest.mark.django_db
def test_a_record_that_was_stored_without_django_keeps_its_meaning() -> None:
    """Whatever wrote the row, its fields are stored when a process starts."""
    record = grown()
    BindingRecord._base_manager.update(known=None)
    assert growth.store_missing("default") == 1
    record.refresh_from_db()
    assert record.known == sorted(field.name for field in bound_fields(find_model("blog.Post"), record.to_spec()))  # type: ignore[arg-type]
    assert growth.store_missing("default") == 0


@pytest.mark.django_db
def test_each_definition_has_its_own_baseline() -> None:
    """Keys that choose no field do not count."""
    spec = BindingSpec.from_dict({"stream": "s", "model": "blog.Post", "fields": "__all__"})
    other = BindingSpec.from_dict({**spec.to_dict(), "permissions": {"view": True}})
    stored = {("s", definition_digest(spec)): frozenset({"title"})}
    assert find_baseline(stored, spec) == find_baseline(stored, other) == frozenset({"title"})
    narrower = BindingSpec.from_dict({"stream": "s", "model": "blog.Post", "exclude": ["body"]})
    assert find_baseline(stored, narrower) is None
    growing = BindingSpec.from_dict({**spec.to_dict(), "grow": True})
    assert find_baseline(stored, growing) is None


@pytest.fixture
def defined(monkeypatch: pytest.MonkeyPatch) -> BindingSpec:
    """Return a definition of a file that is in force, and whose fields are not stored."""
    spec = BindingSpec.from_dict({"stream": "defined", "model": "blog.Post", "fields": "__all__"})
    monkeypatch.setattr(growth, "static_specs", lambda: [spec])
    return spec


@pytest.mark.django_db
@pytest.mark.parametrize("start", ["process", "migrate", "apply"])
def test_missing_baselines_are_stored_once(start: str, defined: BindingSpec, tmp_path: Path) -> None:
    """The version changes then, so that every process follows. The second time nothing happens."""
    (tmp_path / "none.json").write_text("[]")
    starts = {
        "process": lambda: LogReader("default").first_look(),
        "migrate": lambda: growth.follow_migration("default"),
        "apply": lambda: call_command("declbind", "apply", str(tmp_path / "none.json"), "--yes", stdout=io.StringIO()),
    }
    Configuration.ensure("default")
    version = Configuration.objects.get().version
    starts[start]()
    stored = Baseline.objects.get(stream="defined")
    assert "author" in stored.names
    assert stored.definition == definition_digest(defined)
    assert Configuration.objects.get().version == version + 1
    starts[start]()
    assert Configuration.objects.get().version == version + 1


@pytest.mark.django_db
def test_a_definition_that_names_its_fields_needs_none(defined: BindingSpec) -> None:
    """Its stored fields are dropped, so that it means the fields of that time if it is stored again."""
    growth.follow_migration("default")
    assert Baseline.objects.filter(stream="defined").exists()
    named = replace(defined, fields=("title",))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(growth, "static_specs", lambda: [named])
        growth.follow_migration("default")
    assert not Baseline.objects.filter(stream="defined").exists()


@pytest.mark.django_db
def test_old_definitions_are_dropped(defined: BindingSpec) -> None:
    """A stream whose file is edited repeatedly keeps its last few definitions."""
    for number in range(2 * growth.KEPT_DEFINITIONS):
        Baseline.objects.create(stream="defined", definition=f"old {number}")
    growth.store_missing("default")
    kept = list(Baseline.objects.filter(stream="defined").values_list("definition", flat=True))
    assert len(kept) == growth.KEPT_DEFINITIONS
    assert definition_digest(defined) in kept


@pytest.mark.django_db
def test_an_unreadable_database_does_not_stop_migrate(
    defined: BindingSpec, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A table may lack a column during a migration. The next process stores what is missing."""

    def fail(using: str) -> object:
        raise DatabaseError("no such column")

    monkeypatch.setattr(growth, "load_baselines", fail)
    growth.follow_migration("default")
    assert "no such column" in caplog.text


def test_a_class_without_waiting_fields_is_used_unchanged() -> None:
    """Only a class that sends less becomes a subclass, the same one at each load, and its methods still work."""

    class Posts(WebsocketBinding):
        model = "blog.Post"
        stream = "class-posts"
        exclude = ("body",)

        def serialize_data(self, instance: AnyRow) -> dict[str, object]:
            return {**super().serialize_data(instance), "more": 1}

    sent = {field.name for field in Posts.bound_fields()}
    assert limit_binding(Posts, None) is Posts
    assert limit_binding(Posts, frozenset(sent)) is Posts
    limited = limit_binding(Posts, frozenset(sent - {"author"}))
    assert limited is limit_binding(Posts, frozenset(sent - {"author"}))
    assert issubclass(limited, Posts)
    assert (limited.held_names(), Posts.held_names()) == (["author"], [])
    assert limited.overrides("serialize_data")
    assert limited.fingerprint() != Posts.fingerprint()


@pytest.mark.django_db
def test_a_load_takes_one_more_query(django_assert_num_queries: Any) -> None:
    """The number of definitions does not matter."""
    registry.refresh(force=True)
    with django_assert_num_queries(1):
        baselines.stored_baselines("default")


@pytest.mark.django_db
def test_without_the_table_no_field_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before migrate there is no baseline, and no query that would break a transaction."""
    monkeypatch.setattr(baselines, "_present", set())
    monkeypatch.setattr(baselines, "has_table", lambda connection, name: False)
    monkeypatch.setattr(growth, "has_table", lambda connection, name: False)
    assert baselines.stored_baselines("default") == {}
    assert growth.store_missing("default") == 0


@pytest.mark.django_db
def test_the_example_s_definitions_have_baselines_after_migrate() -> None:
    """Every definition that needs a baseline has one, and no other."""
    needed = {spec.stream for spec in registry.static_specs() if spec.is_open and not spec.grow}
    assert set(Baseline.objects.values_list("stream", flat=True)) == needed
