"""Users in one database, bound models and declbind in another: the whole course on each kind of database."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from django.db import connection

from tests.servers import ROOT


def two_databases(folder: Path) -> dict[str, object]:
    """Return the settings of two databases of this run's kind, with names of their own on a server."""
    names = {alias: f"two_{alias}_{uuid.uuid4().hex[:8]}" for alias in ("default", "other")}
    if connection.vendor == "sqlite":
        options = {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        }
        files = {alias: str(folder / f"{name}.sqlite3") for alias, name in names.items()}
        return {
            alias: {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": file,
                "OPTIONS": options,
                "TEST": {"NAME": f"{file}.test"},
            }
            for alias, file in files.items()
        }
    server = {key: connection.settings_dict[key] for key in ("ENGINE", "USER", "PASSWORD", "HOST", "PORT", "OPTIONS")}
    return {alias: {**server, "NAME": name} for alias, name in names.items()}


class Site:
    """The site of ``tests.two_databases`` in processes of its own."""

    def __init__(self, folder: Path) -> None:
        self.env = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("DATABASE", "TEST_", "PYTEST"))},
            "DJANGO_SETTINGS_MODULE": "tests.two_databases.settings",
            "TWO_DATABASES": json.dumps(two_databases(folder)),
        }

    def run(self, *arguments: str, seconds: int = 300) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=seconds
        )

    def manage(self, *arguments: str) -> str:
        ran = self.run("-W", "ignore", "-m", "django", *arguments)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout + ran.stderr


@pytest.mark.timeout(400)
@pytest.mark.django_db
def test_the_course_completes_on_two_databases(tmp_path: Path) -> None:
    """Each part is a test of the inner run, which names failures."""
    ran = Site(tmp_path).run(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "python_files=course.py", "--ds",
        "tests.two_databases.settings", "tests/two_databases/course.py",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert passed
    assert int(passed[1]) >= 20


@pytest.mark.skipif(connection.vendor != "sqlite", reason="files need no server")
def test_a_new_site_is_set_up_by_migrate(tmp_path: Path) -> None:
    """The order of the databases does not matter. Before that, commands and checks name the database without tables."""
    site = Site(tmp_path)
    file = tmp_path / "records.json"
    file.write_text('{"stream": "notes", "model": "shop.Note", "fields": ["text"]}')
    early = site.run("-m", "django", "declbind", "apply", "--yes", str(file))
    assert early.returncode == 1
    assert "in database 'other' (SQLite, " in early.stderr
    assert "Run `manage.py migrate --database other`." in early.stderr
    site.manage("migrate", "--database", "other")
    site.manage("migrate", "--database", "default")
    site.manage("migrate", "--check", "--database", "other")
    for alias in ("default", "other"):
        assert "System check identified no issues" in site.manage("check", "--database", alias)
    assert "The configuration is at version" in site.manage("declbind", "apply", "--yes", str(file))
    assert "notes" in site.manage("declbind", "list")
    wrong = site.run("-m", "django", "declbind", "apply", "--yes", str(file), "--database", "default")
    assert wrong.returncode == 1
    assert "declbind's tables are in database 'other': name that one with --database." in wrong.stderr
