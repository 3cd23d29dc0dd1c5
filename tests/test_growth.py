"""Fields that a migration adds are sent once somebody has accepted them: for records, files and classes.

The site of these tests is made anew for each of them, and each step is a process of its own, as a deployment is.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
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
from tests.servers import ROOT

SETTINGS = """
SECRET_KEY = "only-for-tests"
USE_TZ = True
DATABASES = {"default": {
    "ENGINE": "django.db.backends.sqlite3", "NAME": BASE + "/db.sqlite3",
    "OPTIONS": {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL;"},
}}
INSTALLED_APPS = [
    "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "channels", "declbind", "shop",
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DECLBIND = {"ALLOWED_ORIGINS": ["https://shop.test"]}
import os
if os.environ.get("IGNORE_GROWTH"):
    from declbind.core.spec import BindingSpec
    made = BindingSpec.__post_init__
    def without_known(self):
        made(self)
        object.__setattr__(self, "known", None)
    BindingSpec.__post_init__ = without_known
"""
MODELS = """
from django.db import models

class Item(models.Model):
    name = models.CharField(max_length=20, default="")
    price = models.IntegerField(default=0)
"""
BINDINGS = """
from declbind import WebsocketBinding

class ClassBinding(WebsocketBinding):
    model = "shop.Item"
    stream = "by-class"
    exclude = ["price"]
"""
FILE: list[dict[str, Any]] = [
    {"stream": "by-file", "model": "shop.Item", "fields": "__all__"},
    {"stream": "growing", "model": "shop.Item", "fields": "__all__", "grow": True},
]
NEW_FIELD = '    note = models.CharField(max_length=20, default="x")\n'
STREAMS = ("by-class", "by-file", "by-record")
#: Write a row, and print what each stream sent of it.
WRITE = """
import json
from declbind.models import Event
from shop.models import Item
Item.objects.create(name="a")
newest = {stream: json.loads(data) for stream, data in Event.objects.order_by("id").values_list("stream", "data")}
print("SENT", json.dumps({stream: sorted(data) for stream, data in newest.items() if stream}))
"""
ADD_RECORD = """
from declbind.models import BindingRecord
BindingRecord.objects.create(stream="by-record", model="shop.Item", exclude=["price"])
"""


class Site:
    """A project whose model can get a field by a migration."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        app = folder / "shop"
        (app / "bindings_records").mkdir(parents=True)
        (folder / "site_settings.py").write_text(f"BASE = {str(folder)!r}\n{SETTINGS}")
        (app / "__init__.py").touch()
        self.write_models(MODELS)
        (app / "bindings.py").write_text(BINDINGS)
        self.write_file(FILE)
        self.manage("makemigrations", "shop")
        self.manage("migrate")
        self.shell(ADD_RECORD)

    def write_models(self, text: str) -> None:
        (self.folder / "shop/models.py").write_text(text)

    def write_file(self, records: list[dict[str, Any]]) -> None:
        folder = self.folder / "records"
        folder.mkdir(exist_ok=True)
        (folder / "all.json").write_text(json.dumps(records))
        settings = self.folder / "site_settings.py"
        if "RECORD_DIRS" not in settings.read_text():
            settings.write_text(f"{settings.read_text()}\nDECLBIND['RECORD_DIRS'] = [{str(folder)!r}]\n")

    def add_field(self, line: str = NEW_FIELD) -> None:
        self.write_models((self.folder / "shop/models.py").read_text() + line)
        self.manage("makemigrations", "shop")
        self.manage("migrate")

    def manage(self, *arguments: str, fails: bool = False, env: Mapping[str, str] | None = None) -> str:
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "site_settings",
            "PYTHONPATH": os.pathsep.join((str(self.folder), str(ROOT))),
            **(env or {}),
        }
        done = subprocess.run(
            [sys.executable, "-m", "django", *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode != 0) is fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    def shell(self, code: str, env: Mapping[str, str] | None = None) -> str:
        return self.manage("shell", "-c", code, env=env)

    def sent(self, env: Mapping[str, str] | None = None) -> dict[str, list[str]]:
        line = next(line for line in self.shell(WRITE, env).splitlines() if line.startswith("SENT "))
        found: dict[str, list[str]] = json.loads(line[5:])
        return found


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Return a migrated project with one binding of each source."""
    return Site(tmp_path)


def leaks(sent: Mapping[str, list[str]]) -> list[str]:
    """Return the streams that send the new field although it was not accepted."""
    return [stream for stream in STREAMS if "note" in sent[stream]]


def test_a_field_that_a_migration_adds_waits_until_it_is_accepted(site: Site) -> None:
    """Each source holds it back, the checks and the command report it, and accepting it sends it."""
    before = site.sent()
    site.add_field()
    sent = site.sent()
    assert leaks(sent) == []
    assert {stream: sent[stream] for stream in STREAMS} == {stream: before[stream] for stream in STREAMS}
    assert "note" in sent["growing"], "grow sends it as before"
    assert leaks(site.sent({"IGNORE_GROWTH": "1"})) == list(STREAMS), "the control: one that ignores growth is seen"

    checked = site.manage("declbind", "check")
    assert [f"declbind accept {stream}`" in checked for stream in STREAMS] == [True] * 3
    assert "declbind accept growing" not in checked
    assert site.manage("declbind", "list").count("on, new: note") == 3
    assert site.manage("check", "--database", "default").count("declbind.W024") == 3
    assert "by-file: shop.Item got note later" in site.manage("declbind", "doctor")

    for stream in STREAMS:
        assert "nobody to ask" in site.manage("declbind", "accept", stream, fails=True)
        told = site.manage("declbind", "accept", stream, "--yes")
        assert f"Binding {stream!r} also sends note; also accepts note." in told
    assert leaks(site.sent()) == list(STREAMS)
    assert "W024" not in site.manage("check", "--database", "default")
    assert "has no new fields" in site.manage("declbind", "accept", "by-file")


def test_only_an_edit_that_chooses_fields_renews_what_a_file_means(site: Site) -> None:
    """Another permission or description in the same deployment opens no field."""
    site.add_field()
    site.write_file([{**FILE[0], "description": "Prices", "permissions": {"view": True}}, FILE[1]])
    site.manage("migrate")
    assert leaks(site.sent()) == []
    site.write_file([{"stream": "by-file", "model": "shop.Item", "exclude": ["price"]}, FILE[1]])
    site.manage("migrate")
    assert leaks(site.sent()) == ["by-file"]


def test_a_field_that_was_removed_is_a_new_one_when_it_comes_again(site: Site) -> None:
    """After a migration without it, the content of a later field of that name is unknown."""
    site.add_field()
    for stream in STREAMS:
        site.manage("declbind", "accept", stream, "--yes")
    site.write_models(MODELS)
    site.manage("makemigrations", "shop")
    site.manage("migrate")
    site.add_field()
    assert leaks(site.sent()) == []


def test_a_process_with_the_old_model_agrees_while_a_deployment_is_under_way(site: Site) -> None:
    """It stores and saves nothing that the new model would have to send."""
    site.add_field()
    new = (site.folder / "shop/models.py").read_text()
    site.write_models(MODELS)
    site.shell("from declbind import growth; assert growth.store_missing('default') == 0")
    site.shell("from declbind.models import BindingRecord; BindingRecord.objects.update(description='edited')")
    site.write_models(new)
    assert leaks(site.sent()) == []
    site.manage("declbind", "accept", "by-record", "--yes")
    site.write_models(MODELS)
    site.shell("from declbind.models import BindingRecord; BindingRecord.objects.update(description='again')")
    site.write_models(new)
    assert leaks(site.sent()) == ["by-record"], "an edit by an old process takes nothing back"


# Records of the database, in this process -----------------------------------------------------------------------------

POST = {"stream": "posts", "model": "blog.Post", "exclude": ["body"], "permissions": {"view": "blog.view_post"}}


def grown(**more: Any) -> BindingRecord:
    """Return a stored record of a model that has got ``author`` since."""
    record = BindingRecord().assign({**POST, **more})
    record.save()
    BindingRecord._base_manager.update(known=[name for name in record.known or () if name != "author"])
    Configuration.bump("default")
    found: BindingRecord = BindingRecord.objects.get()
    return found


def changed(record: BindingRecord, **values: Any) -> BindingRecord:
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
def test_no_edit_of_a_record_sends_what_waits(edit: Any) -> None:
    """Whatever is edited, and in whichever way, a held field stays held."""
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
def test_naming_what_waits_takes_the_right_to_open_it() -> None:
    """Control: a comparison that ignores waiting fields sees no opening at all."""
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
def test_a_definition_keeps_its_baseline_and_another_one_gets_its_own() -> None:
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
def test_what_is_missing_is_stored_once(start: str, defined: BindingSpec, tmp_path: Path) -> None:
    """The version changes then, so that every process follows; the second time nothing happens."""
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
def test_a_database_that_cannot_be_read_stops_no_migrate(
    defined: BindingSpec, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A table may lack a column during a migration; the next process stores what is missing."""

    def fail(using: str) -> Any:
        raise DatabaseError("no such column")

    monkeypatch.setattr(growth, "load_baselines", fail)
    growth.follow_migration("default")
    assert "no such column" in caplog.text


def test_a_class_from_which_nothing_is_held_back_stays_itself() -> None:
    """Only a class that sends less becomes a subclass, the same one at each load, and its methods still work."""

    class Posts(WebsocketBinding):
        model = "blog.Post"
        stream = "class-posts"
        exclude = ("body",)

        def serialize_data(self, instance: Any) -> dict[str, Any]:
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
def test_a_load_costs_one_query_more(django_assert_num_queries: Any) -> None:
    """The number of definitions does not matter."""
    registry.refresh(force=True)
    with django_assert_num_queries(1):
        baselines.stored_baselines("default")


def test_without_the_table_nothing_is_limited_and_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
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
