"""Fields that a migration adds are sent once somebody has accepted them: for records, files and classes.

The site of these tests is made anew for each of them, and each step is a process of its own, as a deployment is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.json_types import JSONObject
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
FILE: list[JSONObject] = [
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

    def write_file(self, records: list[JSONObject]) -> None:
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


def test_only_an_edit_of_the_fields_renews_the_baseline_of_a_file(site: Site) -> None:
    """Another permission or description in the same deployment opens no field."""
    site.add_field()
    site.write_file([{**FILE[0], "description": "Prices", "permissions": {"view": True}}, FILE[1]])
    site.manage("migrate")
    assert leaks(site.sent()) == []
    site.write_file([{"stream": "by-file", "model": "shop.Item", "exclude": ["price"]}, FILE[1]])
    site.manage("migrate")
    assert leaks(site.sent()) == ["by-file"]


def test_a_field_that_was_removed_and_added_again_is_a_new_one(site: Site) -> None:
    """The content of the later field is unknown."""
    site.add_field()
    for stream in STREAMS:
        site.manage("declbind", "accept", stream, "--yes")
    site.write_models(MODELS)
    site.manage("makemigrations", "shop")
    site.manage("migrate")
    site.add_field()
    assert leaks(site.sent()) == []


def test_a_process_with_the_old_model_agrees_during_a_deployment(site: Site) -> None:
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
