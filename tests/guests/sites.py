"""Projects for guests: the result of ``startproject`` and declbind's tutorial, and a guest's own instructions."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.servers import ROOT, PostgresServer
from tests.test_readme import write_files

from .roster import POSTGRES, Guest

#: The tutorial's files that a guest's project needs.
FILES = ("mysite/settings.py", "mysite/asgi.py", "mysite/urls.py", "mysite/templates/people.html")
#: How long one course may take, in seconds.
PATIENCE = 200

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Outcome:
    """The result of one guest on one database: the problems for each capture mode, and the duration."""

    problems: Mapping[str, list[str]]
    seconds: Mapping[str, float]


class Sites:
    """A folder with the tutorial's project, migrated once for each database; a guest's project is a copy."""

    def __init__(self, postgres: PostgresServer) -> None:
        self.postgres = postgres
        self._directory = tempfile.TemporaryDirectory(prefix="declbind-guests-")
        self.root = Path(self._directory.name)
        self._count = 0
        #: The prefix of the databases' names: several sites may share a server.
        self._prefix = f"guests_{next(_numbers)}"

    def __enter__(self) -> Self:
        """Make the project and its tables on both databases."""
        try:
            self._build()
        except BaseException:
            self._directory.cleanup()
            raise
        return self

    def _build(self) -> None:
        plain = self.root / "plain"
        plain.mkdir()
        _run([sys.executable, "-m", "django", "startproject", "mysite", "."], plain)
        write_files(plain, {name: name for name in FILES})
        (plain / "startup.py").write_text("")
        url = self.postgres.create_database(f"{self._prefix}_plain")
        for database in ("", url):
            _write_database(plain, database)
            _run([sys.executable, "manage.py", "migrate", "-v0"], plain)

    def __exit__(self, *exc_info: object) -> None:
        """Remove the folder; the databases go with their server."""
        self._directory.cleanup()

    def run(self, guest: Guest, database: str, sabotage: str = "") -> Outcome:
        """Run the course of a guest in a project and a process of its own."""
        self._count += 1
        name = f"{self._prefix}_{self._count}_{guest.name}"
        project = self.root / name
        shutil.copytree(self.root / "plain", project, ignore=shutil.ignore_patterns("__pycache__"))
        url = self.postgres.create_database(name, template=f"{self._prefix}_plain") if database == POSTGRES else ""
        _write_database(project, url)
        for path, text in {"settings": guest.settings, "urls": guest.urls}.items():
            with (project / "mysite" / f"{path}.py").open("a") as file:
                file.write(text)
        for path, text in guest.files.items():
            (project / "mysite" / path).write_text(text)
        (project / "startup.py").write_text(guest.startup)
        shutil.copy(guest.models, project / "mysite" / "models.py")
        (project / "mysite" / "migrations").mkdir()
        (project / "mysite" / "migrations" / "__init__.py").touch()
        printed = _run([sys.executable, "-m", "tests.guests.run", *([sabotage] if sabotage else [])], project)
        outcome: dict[str, Any] = json.loads(printed.splitlines()[-1])
        return Outcome(**outcome)


def _write_database(project: Path, url: str) -> None:
    """Write the database of a project into the file that its settings end with."""
    settings = project / "mysite" / "settings.py"
    head = settings.read_text().partition("# The database of the test.\n")[0]
    lines = ["# The database of the test.", "DEBUG = False", "ALLOWED_HOSTS = ['testserver']"]
    if url:
        host, _, name = url.rpartition("/")
        values = {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": name,
            "USER": "postgres",
            "HOST": "127.0.0.1",
            "PORT": host.rpartition(":")[2],
        }
        lines.append(f"DATABASES['default'] = {values!r}")
    settings.write_text(head + "\n".join(lines) + "\n")


def _run(command: list[str], folder: Path) -> str:
    """Run a command in a project, without the settings of this suite.

    Python may keep its compiled files, because compiling takes longer than the rest of a run.

    Raises:
        AssertionError: The command failed.
    """
    dropped = ("DJANGO", "DATABASE", "TEST", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**kept, "PYTHONPATH": f"{folder}:{ROOT}", "DJANGO_SETTINGS_MODULE": "mysite.settings"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return done.stdout
