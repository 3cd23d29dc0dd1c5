"""The project of the developer tutorial, built from its printed files and commands, with its page in a browser."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from declbind.core.errors import CODES
from tests.docs.blocks import find_blocks
from tests.servers import Server

ROOT = Path(__file__).parent.parent
TUTORIAL = ROOT / "docs/tutorials/developer.md"
SECTION = re.compile(r"## A live page\n(.*?)\n## ", re.DOTALL)
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
#: The first line of a printed file is a comment with its name.
FILE_NAME = re.compile(r"(?:#|<!--) (\S+\.\w+)(?: -->)?\n")
#: The folder of the installed programs that the commands name, such as django-admin and daphne.
PROGRAMS = Path(sys.executable).parent
BOSS = (
    'python manage.py shell -c "from django.contrib.auth.models import User; '
    "User.objects.create_superuser('boss', password='boss')\""
)
SAVE = "from django.contrib.auth.models import User; user = User.objects.get(); user.first_name = {!r}; user.save()"


# What is printed --------------------------------------------------------------------------------------------


def quick_start() -> str:
    section = SECTION.search(TUTORIAL.read_text())
    assert section is not None
    return section[1]


def printed_files() -> dict[str, str]:
    """Return the text of each file of the quick start by its path in the project."""
    files = {}
    for language, code in BLOCK.findall(quick_start()):
        name = FILE_NAME.match(code)
        if language == "json":  # JSON has no comments; the sentence above the block names the file
            [path] = re.findall(r"`(\S+\.json)`[^\n]*\n\n```json\n" + re.escape(code), quick_start())
            files[path] = code
        elif name is not None and name[1].startswith("mysite/"):
            files[name[1]] = code
    return files


def printed_commands() -> list[str]:
    """Return the blocks of shell commands in order: make the project, start it, save a user."""
    return [code for language, code in BLOCK.findall(quick_start()) if language == "sh"]


def write_files(root: Path, places: Mapping[str, str] | None = None) -> None:
    """Write the printed files into a project; settings are appended to existing ones.

    ``places`` has other paths for some of the files; only those are written then.
    """
    for name, code in printed_files().items():
        if places is not None and name not in places:
            continue
        path = root / (places or {}).get(name, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a" if name.endswith("settings.py") else "w") as file:
            file.write(code)


# The project ------------------------------------------------------------------------------------------------


class Project(Server):
    """A fresh Django project, served by one of the commands that the tutorial names."""

    name = "project"
    served_by = "runserver"
    #: The folder of the environment's programs.
    programs = PROGRAMS

    @property
    def root(self) -> Path:
        """Return the folder of ``manage.py``."""
        return self.directory / "mysite"

    def run(self, *arguments: str) -> str:
        """Run one of the project's commands and return what it printed."""
        return self.shell("exec python manage.py " + shlex.join(arguments), self.root)

    def shell(self, commands: str, folder: Path) -> str:
        """Run shell commands like a user with an activated virtual environment."""
        done = subprocess.run(
            ["bash", "-euc", commands],
            cwd=folder,
            env=self.environment(),
            input="y\n",  # `apply` asks
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def build(self) -> None:
        """Make the project with the printed commands and files, except the last command, which serves it."""
        create, start, _ = printed_commands()
        install, *commands = create.splitlines()
        assert install == "python -m pip install declbind daphne"
        self.shell("\n".join(commands), self.directory)
        write_files(self.root)
        *commands, serve = start.splitlines()
        assert serve == "python manage.py runserver"
        self.shell("\n".join(commands), self.root)

    def command(self) -> Sequence[str]:
        match self.served_by:
            case "runserver":
                return [str(self.programs / "python"), "manage.py", "runserver", "--noreload", f"127.0.0.1:{self.port}"]
            case program:
                [command] = re.findall(rf"`({program}\s[^`]+)`", quick_start())
                return [str(self.programs / program), *command.split()[1:], "--port", str(self.port)]

    def working_directory(self) -> Path:
        return self.root

    def environment(self) -> Mapping[str, str]:
        # Only a new user's environment: nothing of the suite's own settings.
        dropped = ("DJANGO", "DATABASE", "TEST", "PYTHONPATH")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
        return {**kept, "PATH": f"{self.programs}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}


@pytest.fixture(scope="module")
def built() -> Iterator[Project]:
    """Return a project that is not served, for its files."""
    template = Project()
    try:
        template.build()
        yield template
    finally:
        template.close()


@pytest.fixture
def project(built: Project) -> Iterator[Project]:
    server = Project()
    try:
        shutil.copytree(built.directory, server.directory, dirs_exist_ok=True)
        yield server
    finally:
        server.close()


def sort_imports(path: Path, *options: str) -> None:
    """Sort the imports of a file by ruff's rules with these options."""
    settings = [word for option in options for word in ("--config", f"lint.isort.{option}")]
    ruff = [str(PROGRAMS / "ruff"), "check", "--isolated", "--no-cache", "--quiet", "--select", "I", "--fix", *settings]
    # Ruff considers packages in the current folder part of the project, and sorts them last.
    subprocess.run([*ruff, path.name], cwd=path.parent, check=True, timeout=60)


# The quick start --------------------------------------------------------------------------------------------


def test_the_quick_start_is_short() -> None:
    """A newcomer's input fits on one screen."""
    texts = [*printed_files().values(), *printed_commands()]
    lines = [line for text in texts for line in text.splitlines() if line.strip()]
    assert len(lines) <= 75


@pytest.mark.parametrize("served_by", ["runserver", "uvicorn", "daphne"])
def test_the_quick_start_works(project: Project, page: Page, expect: Callable[..., Any], served_by: str) -> None:
    """The page shows a user whom the printed command creates, and changes when another process saves that user."""
    project.served_by = served_by
    project.start()
    page.goto(f"http://127.0.0.1:{project.port}/")
    expect(page).to_have_title("People")
    save = printed_commands()[2]
    project.shell(save, project.root)
    expect(page.locator("#people li")).to_have_text(["ada Ada"], timeout=20_000)
    project.run("shell", "-c", SAVE.format("Augusta"))
    expect(page.locator("#people li")).to_have_text(["ada Augusta"], timeout=20_000)
    assert "Traceback" not in project.log_text()


class ReadmeProject(Project):
    """A project made by the five steps of the README, with the address of the page from the tutorial."""

    def build(self) -> None:
        self.shell("django-admin startproject mysite", self.directory)
        blocks = {block.language: block for block in find_blocks() if block.page == "README.md"}
        files = {
            block.file_name: block.code for block in find_blocks() if block.page == "README.md" and block.file_name
        }
        files["people.json"] = blocks["json"].code
        files["mysite/templates/people.html"] = blocks["html"].code
        files["mysite/urls.py"] = printed_files()["mysite/urls.py"]
        # The app is for the template of the page, for which each project has a place of its own.
        files["mysite/settings.py"] += 'INSTALLED_APPS.append("mysite")\n'
        (self.root / "mysite/templates").mkdir()
        for name, code in files.items():
            with (self.root / name).open("a" if name.endswith("settings.py") else "w") as file:
                file.write(code)
        self.run("migrate")
        self.run("declbind", "apply", "people.json")


def watch_people(project: Project, page: Page, expect: Callable[..., Any]) -> None:
    """Start the project, log in as a staff user, and wait until the title of the page names a new user."""
    project.shell(BOSS, project.root)
    project.start()
    page.goto(f"http://127.0.0.1:{project.port}/admin/login/?next=/")
    page.fill("input[name=username]", "boss")
    page.fill("input[name=password]", "boss")
    page.press("input[name=password]", "Enter")
    expect(page).to_have_title("boss", timeout=20_000)
    project.shell(printed_commands()[2], project.root)
    expect(page).to_have_title("boss,ada", timeout=20_000)


def test_the_readme_works(page: Page, expect: Callable[..., Any]) -> None:
    """The five steps of the README make a page that follows users, for staff users only."""
    project = ReadmeProject()
    try:
        project.build()
        watch_people(project, page, expect)
    finally:
        project.close()


@pytest.mark.parametrize(
    "options",
    [(), ("force-sort-within-sections=true",), ("from-first=true", "length-sort=true"), ("force-single-line=true",)],
)
def test_a_sorted_asgi_file_works(project: Project, options: tuple[str, ...]) -> None:
    """A server can import ``asgi.py`` in every order that ruff can choose."""
    sort_imports(project.root / "mysite/asgi.py", *options)
    project.shell("python -c 'import mysite.asgi'", project.root)


def test_the_printed_asgi_file_is_sorted(project: Project) -> None:
    """Ruff's default order is the printed one."""
    path = project.root / "mysite/asgi.py"
    sort_imports(path)
    assert path.read_text() == printed_files()["mysite/asgi.py"]


def test_any_import_may_come_first(project: Project) -> None:
    """No import of ``asgi.py`` needs another one, or Django's settings, before it."""
    path = project.root / "mysite/asgi.py"
    text = printed_files()["mysite/asgi.py"]
    imports = re.findall(r"^(?:from|import) .*\n", text, re.MULTILINE)
    assert len(imports) == 5
    for first in imports:
        path.write_text(first + text)
        project.shell("python -c 'import mysite.asgi'", project.root)


def test_an_import_that_needs_django_says_so(project: Project) -> None:
    """Control of the tests above: a consumer that is imported too early raises an error with the fix."""
    path = project.root / "mysite/asgi.py"
    path.write_text("from declbind import WebsocketDemultiplexer\n" + path.read_text())
    with pytest.raises(AssertionError, match=r"below the call of get_asgi_application\(\)"):
        project.shell("python -c 'import mysite.asgi'", project.root)
    with pytest.raises(AssertionError, match=r"declbind.WebsocketDemultiplexer was imported before Django was set up"):
        project.shell("DJANGO_SETTINGS_MODULE=mysite.settings python -c 'import mysite.asgi'", project.root)


def test_a_sorted_asgi_file_is_served_by_daphne(project: Project, page: Page, expect: Callable[..., Any]) -> None:
    """Daphne imports ``asgi.py`` before Django is set up; a sorted file serves pages and bindings anyway."""
    sort_imports(project.root / "mysite/asgi.py", "force-sort-within-sections=true", "from-first=true")
    project.served_by = "daphne"
    project.start()
    page.goto(f"http://127.0.0.1:{project.port}/")
    project.shell(printed_commands()[2], project.root)
    expect(page.locator("#people li")).to_have_text(["ada Ada"], timeout=20_000)


# The other pages --------------------------------------------------------------------------------------------


def test_the_examples_of_tests_pass(project: Project) -> None:
    """The test cases printed on the page on testing pass in the quick start's project."""
    cases = [code for _, code in BLOCK.findall((ROOT / "docs/testing.md").read_text()) if "TestCase" in code]
    assert len(cases) == 2
    (project.root / "mysite/tests.py").write_text("\n\n".join(cases))
    project.run("test", "mysite")


def test_the_class_of_the_tutorial_passes_its_tests(project: Project) -> None:
    """The binding class and its tests, as the tutorial prints them, pass in the tutorial's project."""
    for name, code in blocks_of_the_project().items():
        (project.root / name).write_text(code)
    for command in ("check", "list"):
        printed = project.run("declbind", command)
    assert "staff" in printed
    project.run("test", "mysite")


def test_a_broken_class_fails_the_tests_of_the_tutorial(project: Project) -> None:
    """Control of the test above: the printed tests detect a class that admits everyone."""
    files = blocks_of_the_project()
    files["mysite/bindings.py"] = files["mysite/bindings.py"].replace("return user.is_staff", "return True")
    for name, code in files.items():
        (project.root / name).write_text(code)
    with pytest.raises(AssertionError, match="test_other_users_are_refused"):
        project.run("test", "mysite")


def blocks_of_the_project() -> dict[str, str]:
    """Return the blocks that the tutorial marks as files of its project, by their paths."""
    blocks = [block for block in find_blocks() if block.comment == "project"]
    assert [block.file_name for block in blocks] == ["mysite/bindings.py", "mysite/tests.py"]
    return {block.file_name: block.code for block in blocks}


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda page: str(page.relative_to(ROOT))
)
def test_links_have_targets(page: Path) -> None:
    """Each link to a file of the repository names an existing file and heading."""
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_error_code_is_documented() -> None:
    """The page on the protocol explains each error code."""
    page = (ROOT / "docs/protocol.md").read_text()
    assert [code for code in CODES if f"| `{code}` |" not in page] == []
