"""Run the README's quick start as printed, in a project of its own, and look at it in a browser."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from playwright.sync_api import Page

from declbind.conf import DEFAULTS
from declbind.console.causes import Cause
from declbind.core.errors import CODES
from tests.servers import Server

ROOT = Path(__file__).parent.parent
SECTION = re.compile(r"## Quick start\n(.*?)Save a user anywhere", re.DOTALL)
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


class Project(Server):
    """A fresh Django project, served by the command that the README names."""

    name = "project"

    def run(self, *arguments: str) -> str:
        """Run one of the project's commands and return what it printed."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=self.directory,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def command(self) -> Sequence[str]:
        manage = str(self.directory / "manage.py")
        return [sys.executable, manage, "runserver", "--noreload", f"127.0.0.1:{self.port}"]

    def environment(self) -> Mapping[str, str]:
        # Only what a new user's shell has: nothing of the suite's own settings.
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("DJANGO", "DATABASE", "TEST"))}
        return {**kept, "PYTHONPATH": str(self.directory), "PYTHONUNBUFFERED": "1"}


def quick_start() -> list[tuple[str, str]]:
    section = SECTION.search((ROOT / "README.md").read_text())
    assert section is not None
    return BLOCK.findall(section[1])


@pytest.fixture
def project() -> Iterator[Project]:
    server = Project()
    subprocess.run(
        ["django-admin", "startproject", "mysite", "."],
        cwd=server.directory,
        check=True,
        env={**server.environment(), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    yield server
    server.close()


def test_the_quick_start_is_short() -> None:
    """What a newcomer types fits on 15 lines."""
    lines = [line for _, code in quick_start() for line in code.splitlines() if line and not line.startswith("#")]
    assert len(lines) <= 15


def test_the_quick_start_works(project: Project, page: Page) -> None:
    """Each block does what it says: the project is served, and a save in another process reaches the page's rows."""
    blocks = quick_start()
    for language, code in blocks:
        if language == "python":
            target = re.search(r"# (\S+)\n", code)
            assert target is not None
            with (project.directory / target[1]).open("a") as file:
                file.write("\n" + code)
        elif language == "json":
            (project.directory / "people.json").write_text(code)
    [commands] = [code for language, code in blocks if language == "sh"]
    for command in commands.splitlines()[:-1]:
        project.run(*command.split()[2:])
    assert commands.splitlines()[-1] == "python manage.py runserver"
    project.start()

    [script] = [code for language, code in blocks if language == "js"]
    page.goto(f"http://127.0.0.1:{project.port}/admin/login/")
    page.add_script_tag(content=script, type="module")
    project.run("shell", "-c", "from django.contrib.auth.models import User; User.objects.create_user('ada')")
    with page.expect_console_message(lambda message: "ada" in message.text, timeout=20_000):
        project.run("shell", "-c", "from django.contrib.auth.models import User; User.objects.get().save()")


def test_every_setting_is_documented() -> None:
    """The page on settings names each key of DECLBIND with its default, and no other key."""
    rows = re.findall(r"^\| `([A-Z_]+)` \| `(.*?)` \|", (ROOT / "docs/settings.md").read_text(), re.MULTILINE)
    assert {name: ast.literal_eval(default) for name, default in rows} == DEFAULTS


def test_every_cause_is_documented() -> None:
    """The page on the console names each cause that "why" may answer, and no other."""
    section = (ROOT / "docs/console.md").read_text().split("The causes are a closed\nlist:")[1].split(". Each comes")[0]
    assert re.findall(r"`([a-z_]+)`", section) == [cause.code for cause in Cause]


def test_every_error_code_is_documented() -> None:
    """The page on the protocol explains each error code."""
    page = (ROOT / "docs/protocol.md").read_text()
    assert [code for code in CODES if f"| `{code}` |" not in page] == []
