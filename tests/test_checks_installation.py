"""The checks of the installation: other packages that shadow declbind's names or overwrite its files."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.checks import Warning as CheckWarning
from pytest_django import Settings

from declbind.checks import check_installation, check_memory_database
from declbind.outbound import memory_databases
from tests.servers import ROOT

SETTINGS = """
SECRET_KEY = "x"
USE_TZ = True
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": {name!r}}}}}
INSTALLED_APPS = [
    "django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions",
    "django.contrib.messages", "django.contrib.staticfiles", "channels", "declbind", {console}
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware", "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
ROOT_URLCONF = "urls"
TEMPLATES = [
    {{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True, "OPTIONS": {{
      "context_processors": ["django.template.context_processors.request",
        "django.contrib.auth.context_processors.auth", "django.contrib.messages.context_processors.messages"]}}}}
]
{more}
"""
URLS = """
from django.contrib import admin
from django.urls import path
urlpatterns = [path("admin/", admin.site.urls)]
"""


class Project:
    """A project in a folder. Its own packages come first on the path, then those of ``site``."""

    def __init__(self, folder: Path, *, console: str = '"admin_ui",', name: str = "db.sqlite3", more: str = "") -> None:
        self.folder, self.site = folder / "project", folder / "site"
        self.folder.mkdir()
        self.site.mkdir()
        self.write("settings.py", SETTINGS.format(console=console, name=name, more=more))
        self.write("urls.py", URLS)

    def write(self, path: str, text: str, *, under: Path | None = None) -> Path:
        file = (under or self.folder) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def install_declbind(self) -> None:
        """Install declbind as a wheel does: the packages, and a list of their files with digests."""
        listed = []
        for package in ("declbind", "admin_ui"):
            shutil.copytree(ROOT / package, self.site / package, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "schemas", self.site / "declbind/schemas")
        for file in sorted((self.site / "admin_ui").rglob("*.*")):
            digest = base64.urlsafe_b64encode(hashlib.sha256(file.read_bytes()).digest()).rstrip(b"=").decode()
            listed.append(f"{file.relative_to(self.site)},sha256={digest},{file.stat().st_size}")
        self.claim("declbind", "9.9", listed)

    def claim(self, name: str, version: str, listed: list[str]) -> None:
        info = f"{name.replace('-', '_')}-{version}.dist-info"
        self.write(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", under=self.site)
        self.write(f"{info}/RECORD", "".join(f"{line}\n" for line in listed), under=self.site)

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "django", *arguments],
            cwd=self.folder,
            env={
                **{key: value for key, value in os.environ.items() if not key.startswith(("DATABASE", "TEST_"))},
                "DJANGO_SETTINGS_MODULE": "settings",
                "PYTHONPATH": os.pathsep.join(map(str, (self.folder, self.site, ROOT))),
            },
            capture_output=True,
            text=True,
            timeout=60,
        )

    def check(self) -> str:
        ran = self.manage("check")
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return " ".join((ran.stdout + ran.stderr).split())


# The console ---------------------------------------------------------------------------------------------------------


def test_the_console_of_this_installation_passes() -> None:
    """Negative control, in the process of the suite."""
    assert check_installation() == []


@pytest.mark.parametrize("console", ['"admin_ui",', '"admin_ui.apps.DeclbindAdminConfig",', '"own.Console",', ""])
def test_a_project_without_a_package_of_that_name_passes(tmp_path: Path, console: str) -> None:
    """It may name the app or its class, have a class of its own, or lack the console."""
    project = Project(tmp_path, console=console)
    project.install_declbind()
    project.write(
        "own.py", "from admin_ui.apps import DeclbindAdminConfig\n\nclass Console(DeclbindAdminConfig):\n    pass\n"
    )
    assert "System check identified no issues" in project.check()


@pytest.mark.parametrize("own_config", [False, True])
def test_a_package_of_the_project_that_shadows_the_console_is_named(tmp_path: Path, own_config: bool) -> None:
    """The message names both places and both remedies, whether the package has an app config or not."""
    project = Project(tmp_path)
    project.install_declbind()
    file = project.write("admin_ui/__init__.py", "")
    if own_config:
        project.write(
            "admin_ui/apps.py",
            'from django.apps import AppConfig\n\nclass Config(AppConfig):\n    name = label = "admin_ui"\n',
        )
    text = project.check()
    assert (
        f"(declbind.W010) INSTALLED_APPS: 'admin_ui' is the package at '{file.parent}' and not declbind's console at "
        f"'{project.site / 'admin_ui'}'. The console's pages are missing from the admin. HINT: Rename your package, or "
        "move it into another package, so that `import admin_ui` finds declbind's. If the console is not wanted, "
        'silence the check: SILENCED_SYSTEM_CHECKS = ["declbind.W010"].'
    ) in text
    assert "identified 1 issue" in text


def test_a_package_of_that_name_that_is_no_app_is_not_reported(tmp_path: Path) -> None:
    """INSTALLED_APPS does not name it, so the console is not expected."""
    project = Project(tmp_path, console="")
    project.write("admin_ui/__init__.py", "")
    assert "System check identified no issues" in project.check()


def test_a_folder_without_init_shadows_nothing(tmp_path: Path) -> None:
    """It may contain templates. Python prefers a package to such a folder."""
    project = Project(tmp_path)
    project.write("admin_ui/templates/x.html", "")
    assert "System check identified no issues" in project.check()


@pytest.mark.parametrize("overwritten", [["__init__.py", "apps.py", "admin.py"], ["admin.py"], []])
def test_a_distribution_that_installs_the_same_files_is_named(tmp_path: Path, overwritten: list[str]) -> None:
    """The message names it, its effect, and how to restore declbind's files, even if declbind was installed last."""
    project = Project(tmp_path)
    project.install_declbind()
    project.claim("admin-ui", "1.0", [f"admin_ui/{name},," for name in ("__init__.py", "apps.py", "admin.py")])
    for name in overwritten:
        project.write(f"admin_ui/{name}", "\n", under=project.site)
    text = project.check()
    named = sorted(f"admin_ui/{name}" for name in overwritten)
    effect = (
        f"Files of declbind were overwritten ({', '.join(named)}), so the console does not work."
        if overwritten
        else "Uninstalling or updating it removes or overwrites declbind's files."
    )
    assert (
        f"(declbind.W010) The distribution 'admin-ui' installed files in '{project.site / 'admin_ui'}', the folder of "
        f"declbind's console. {effect} HINT: Uninstall it, and install declbind again: `pip uninstall admin-ui` and "
        "`pip install --force-reinstall --no-deps declbind`. The two cannot share an environment."
    ) in text


def test_overwritten_files_of_no_distribution_are_named(tmp_path: Path) -> None:
    """The files were copied over, or belong to a distribution that has been uninstalled since."""
    project = Project(tmp_path)
    project.install_declbind()
    project.write("admin_ui/apps.py", "\n", under=project.site)
    text = project.check()
    assert f"The files of declbind's console in '{project.site / 'admin_ui'}' were overwritten" in text
    assert "HINT: Install declbind again: `pip install --force-reinstall --no-deps declbind`." in text


def test_another_distribution_of_the_same_name_elsewhere_is_no_fault(tmp_path: Path) -> None:
    """It is in a separate folder, later on the path."""
    project = Project(tmp_path)
    project.claim("admin-ui", "1.0", ["admin_ui/__init__.py,,"])
    assert "System check identified no issues" in project.check()


def test_a_package_that_shadows_declbind_is_named(tmp_path: Path) -> None:
    """No check of declbind runs there, so the console reports it before one of its modules fails to import."""
    project = Project(tmp_path)
    project.install_declbind()
    file = project.write("declbind/__init__.py", "")
    ran = project.manage("check")
    assert ran.returncode != 0
    assert (
        "ImproperlyConfigured: 'admin_ui' expected the package 'declbind' that it was installed with, and found "
        f"another one: '{file}'. Rename that one."
    ) in ran.stderr


def test_an_old_copy_of_the_client_is_named(settings: Settings, tmp_path: Path) -> None:
    """Static files of the project come before those of apps. An identical copy is not reported."""
    copy = tmp_path / "declbind/declbind.js"
    copy.parent.mkdir()
    own = ROOT / "declbind/static/declbind/declbind.js"
    settings.STATICFILES_DIRS = [tmp_path]
    from django.contrib.staticfiles import finders

    finders.get_finder.cache_clear()  # type: ignore[attr-defined]  # a cached function
    copy.write_bytes(own.read_bytes())
    assert check_installation() == []
    copy.write_text("// old")
    assert check_installation() == [
        CheckWarning(
            f"The static file 'declbind/declbind.js' is '{copy}' and not declbind's own at '{own}': browsers get "
            "another client than the one that belongs to this version.",
            hint="Remove the copy, or put it under another name. If it is intended, silence the check: "
            'SILENCED_SYSTEM_CHECKS = ["declbind.W011"].',
            id="declbind.W011",
        )
    ]
    finders.get_finder.cache_clear()  # type: ignore[attr-defined]  # a cached function


# A database in memory ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [":memory:", "file::memory:?cache=shared"])
def test_w012_a_database_in_memory(tmp_path: Path, name: str) -> None:
    """It is a warning, so that settings for tests still work. ``test`` itself makes a database that works."""
    project = Project(tmp_path, name=name)
    text = project.check()
    assert (
        f"(declbind.W012) DATABASES['default']: the database is in memory (NAME is {name!r}). Other processes cannot "
        "see it, so declbind delivers nothing between processes, and a `migrate` in another process does not make the "
        "tables. HINT: Name a file,"
    ) in text
    project.write(
        "tests.py",
        "from django.test import TestCase\n\nclass T(TestCase):\n    def test(self):\n"
        "        from declbind.models import Event\n        self.assertEqual(Event.objects.count(), 0)\n",
    )
    ran = project.manage("test")
    assert ran.returncode == 0, ran.stderr
    assert "Ran 1 test" in ran.stderr
    assert "W012" not in ran.stdout + ran.stderr


def test_a_file_passes(tmp_path: Path) -> None:
    """Negative control."""
    project = Project(tmp_path)
    assert "System check identified no issues" in project.check()
    assert check_memory_database() == []


@pytest.mark.parametrize("verb", [["tail", "--once"], ["doctor"], ["apply", "--yes", "records.json"]])
def test_commands_say_that_the_database_is_in_memory(tmp_path: Path, verb: list[str]) -> None:
    """The message says more than that a table is missing: ``migrate`` in another process does not change that."""
    project = Project(tmp_path, name=":memory:")
    project.write("records.json", '{"stream": "groups", "model": "auth.Group", "fields": ["name"]}')
    ran = project.manage("declbind", *verb)
    assert ran.returncode == 1
    assert "is in memory (NAME is ':memory:')" in " ".join((ran.stdout + ran.stderr).split())


SOCKET = """
import asyncio, django, logging
django.setup()
logging.basicConfig(level="ERROR", format="%(message)s")
from declbind.testing import Client

async def main():
    client = Client()
    print("accepted", await client.connect())
    print("closed", await client.wait_closed())

asyncio.run(main())
"""


def test_a_socket_is_closed_with_a_reason_in_the_log(tmp_path: Path) -> None:
    """The handshake does not fail with an internal error."""
    project = Project(tmp_path, name=":memory:")
    file = project.write("serve.py", SOCKET)
    ran = subprocess.run(
        [sys.executable, str(file)],
        cwd=project.folder,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": f"{project.folder}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.stdout.split() == ["accepted", "True", "closed", "1011"], ran.stderr
    assert "Database 'default' is in memory (NAME is ':memory:'): each thread that connects to it" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("name", "reach"),
    [
        (":memory:", "thread"),
        ("file::memory:", "thread"),
        ("file::memory:?cache=shared", "process"),
        ("file:memorydb_default?mode=memory&cache=shared", "process"),
        ("/tmp/db.sqlite3", "everybody"),
        ("file:/tmp/db.sqlite3?mode=rw", "everybody"),
    ],
)
def test_which_connections_share_a_database(monkeypatch: pytest.MonkeyPatch, name: str, reach: str) -> None:
    """The name decides, as SQLite interprets it."""
    connection = type("Connection", (), {"vendor": "sqlite", "settings_dict": {"NAME": name}})()
    monkeypatch.setattr(memory_databases, "connections", {"default": connection})
    assert memory_databases.reach_of("default") == reach
