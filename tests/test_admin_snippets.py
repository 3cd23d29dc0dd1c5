"""The examples on a binding's page work unchanged, with several user models and below a path."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import set_script_prefix
from pytest_django import Settings

from admin_ui.bindings.snippets import build_snippets
from declbind.core.spec import BindingSpec
from tests.browser.console import fill_console
from tests.browser.test_console_pages import SCREENS
from tests.console_forms import LIST
from tests.json_types import JSONObject
from tests.servers import ROOT
from tests.test_checks_installation import Project

#: A user model without a name, keyed by a UUID, with a foreign key and an activation flag.
ACCOUNTS = """
import uuid
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.db import models


class Company(models.Model):
    name = models.CharField(max_length=20, unique=True)
    country = models.CharField(max_length=2, choices=[("at", "Austria"), ("pe", "Peru")])


class People(BaseUserManager):
    def create(self, *, invited_by, **values):
        raise NotImplementedError("invite() makes users")


class Person(AbstractBaseUser, PermissionsMixin):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    email = models.EmailField(unique=True)
    born = models.DateField()
    code = models.CharField(max_length=4)
    height = models.DecimalField(max_digits=4, decimal_places=2)
    pause = models.DurationField()
    company = models.ForeignKey(Company, on_delete=models.CASCADE)
    joined = models.DateTimeField(auto_now_add=True)
    is_active = models.BooleanField(default=False)
    is_staff = models.BooleanField(default=False)
    people = People()
    USERNAME_FIELD = "email"
    REQUIRED_FIELDS = ["born", "company"]


class Note(models.Model):
    text = models.CharField(max_length=100)
    room = models.IntegerField(default=1)
    writer = models.ForeignKey("accounts.Person", on_delete=models.CASCADE, null=True)
"""
PLAIN = """
from django.contrib.auth.models import AbstractUser
from django.db import models


class Person(AbstractUser):
    pass


class Note(models.Model):
    text = models.CharField(max_length=100)
    room = models.IntegerField(default=1)
    writer = models.ForeignKey("accounts.Person", on_delete=models.CASCADE, null=True)
"""
RECORDS: dict[str, JSONObject] = {
    "open": {"groups": ["room-{room}"], "permissions": {"view": True}},
    "guarded": {"groups": ["room-{room}"]},
    "own": {
        "fields": ["text", "writer"], "groups": ["of-{writer_id}"], "scope": {"writer_id": "$user.pk"},
        "permissions": {"view": True},
    },
    "in-open": {"direction": "inbound", "permissions": {"create": True}},
    "in.guarded": {"direction": "inbound"},
    "closed": {"permissions": {"view": False}, "where": {"text": "it's \"quoted\""}},
}  # fmt: skip
GENERATE = """
import json, sys, pathlib, django
django.setup()
from admin_ui.bindings.snippets import build_snippets
from declbind.core.spec import BindingSpec
for record in json.loads(sys.argv[1]):
    name = "".join(char if char.isalnum() else "_" for char in record["stream"])
    pathlib.Path(f"test_{name}.py").write_text(build_snippets(BindingSpec.from_dict(record)).test)
"""


@pytest.mark.parametrize("accounts", [ACCOUNTS, PLAIN], ids=["custom", "plain"])
def test_the_generated_test_passes_against_the_projects_own_user_model(tmp_path: Path, accounts: str) -> None:
    """Each kind of binding gives a file, which is written and run unchanged."""
    project = Project(tmp_path, console='"admin_ui", "accounts",', more='AUTH_USER_MODEL = "accounts.Person"')
    project.write("accounts/__init__.py", "")
    project.write("accounts/models.py", accounts)
    project.write("accounts/migrations/__init__.py", "")
    project.write(
        "pytest.ini",
        "[pytest]\nDJANGO_SETTINGS_MODULE = settings\nasyncio_mode = auto\npythonpath = .\nfilterwarnings = error\n"
        "asyncio_default_fixture_loop_scope = function\n",
    )
    with (project.folder / "settings.py").open("a") as settings:
        settings.write(
            'DATABASES["default"]["OPTIONS"] = {"transaction_mode": "IMMEDIATE", "timeout": 20, '
            '"init_command": "PRAGMA journal_mode=WAL;"}\n'
            f'DATABASES["default"]["TEST"] = {{"NAME": {str(project.folder / "test.sqlite3")!r}}}\n'
        )
    made = project.manage("makemigrations", "accounts")
    assert made.returncode == 0, made.stderr
    records = [
        {"stream": stream, "model": "accounts.Note", "fields": ["text", "room"], **record}
        for stream, record in RECORDS.items()
    ]
    env = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("DATABASE", "TEST_", "PYTEST"))},
        "DJANGO_SETTINGS_MODULE": "settings",
        "PYTHONPATH": os.pathsep.join(map(str, (project.folder, ROOT))),
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments], cwd=project.folder, env=env, capture_output=True, text=True, timeout=120
        )

    generated = run("-c", GENERATE, json.dumps(records))
    assert generated.returncode == 0, generated.stderr
    ran = run("-m", "pytest", "-q", "-p", "no:cacheprovider")
    sources = "\n".join(file.read_text() for file in project.folder.glob("test_*.py"))
    assert ran.returncode == 0, f"{ran.stdout}\n{sources}"
    assert f"{len(RECORDS)} passed" in ran.stdout


# A site below a path --------------------------------------------------------------------------------------------------


@pytest.fixture
def below_a_path(settings: Settings) -> Iterator[None]:
    settings.FORCE_SCRIPT_NAME = "/shop"
    settings.STATIC_URL = "static/"
    set_script_prefix("/shop/")
    yield
    set_script_prefix("/")


SPEC = BindingSpec.from_dict({"stream": "posts", "model": "blog.Post", "fields": ["title"]})


def test_the_script_connects_to_the_site_itself() -> None:
    """Without a path, the client's default is right."""
    snippets = build_snippets(SPEC)
    assert snippets is not None
    assert "const client = connect();" in snippets.script


@pytest.mark.usefixtures("below_a_path")
def test_the_script_connects_below_the_path() -> None:
    """The client's default begins at the root of the host."""
    snippets = build_snippets(SPEC)
    assert snippets is not None
    assert "import { connect } from '/shop/static/declbind/declbind.js';" in snippets.script
    assert 'const client = connect("/shop/ws/bindings/");' in snippets.script


@pytest.mark.django_db
@pytest.mark.usefixtures("below_a_path")
def test_every_address_of_the_console_is_below_the_path() -> None:
    """In links, forms, scripts, and in addresses for scripts."""
    client = Client()
    client.force_login(User.objects.create_superuser("operator"))
    values = fill_console()
    faults = []
    for name, path in SCREENS.items():
        path = path.format(**values)
        page = client.get(path if path.startswith("/") else LIST + path).content.decode()
        addresses = re.findall(r'(?:href|src|action|data-(?:url|poll|stream|stop|onward))="([^"]*)"', page)
        assert any(address.startswith("/shop/") for address in addresses), name
        faults += [
            f"{name}: {address}"
            for address in addresses
            if address not in ("", "/shop")
            and not address.startswith(("/shop/", "#", "?", "https://", "http://"))
            # Django's own links are relative to the page.
            and not re.match(r"\.\./|[a-z]+/$|\d+/", address)
        ]
        assert "/shop/shop/" not in page, name
    assert faults == []
