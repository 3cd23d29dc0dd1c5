"""A Wagtail project with declbind, its editor, and a listener to its streams."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser
from websockets.sync.client import ClientConnection, connect

from tests.json_types import JSONObject
from tests.servers import ROOT
from tests.test_readme import Project, write_files

PATIENCE = 20.0
#: The command that makes a project from the template.
WAGTAIL = Path(sys.executable).with_name("wagtail")
#: The places of the tutorial's files in such a project.
PLACES = {"mysite/settings.py": "mysite/settings/base.py", "mysite/asgi.py": "mysite/asgi.py"}
#: The parent of all pages and the template's own type of page; permissions are Django's codenames.
RECORDS: list[JSONObject] = [
    {"stream": "pages", "model": "wagtailcore.Page", "fields": "__all__"},
    {"stream": "homes", "model": "home.HomePage", "fields": ["title", "live", "path", "numchild", "url_path"]},
    {"stream": "images", "model": "wagtailimages.Image", "fields": "__all__"},
]
#: The columns by which recorded writes and frames are compared.
COLUMNS = ("title", "draft_title", "slug", "path", "depth", "numchild", "url_path", "live")
NOTED = {"create": ("INSERT", "NEW"), "update": ("UPDATE", "NEW"), "delete": ("DELETE", "OLD")}


class WagtailProject(Project):
    """A fresh project of Wagtail's template with the tutorial's lines in it, on the template's SQLite file."""

    name = "wagtail"
    login, password = "editor", "a password of this test"
    capture = ""

    @property
    def root(self) -> Path:
        return self.directory

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> Mapping[str, str]:
        # With this checkout, which may differ from the installed package.
        paths = {"PYTHONPATH": f"{self.directory}:{ROOT}"}
        return {**super().environment(), **paths, "DJANGO_SUPERUSER_PASSWORD": self.password}

    def build(self) -> None:
        """Make the project, its tables and its user, and record each write of a page in the database."""
        start: list[str | Path] = [WAGTAIL, "start", "mysite", "."]
        subprocess.run(start, cwd=self.directory, env=self.environment(), check=True, capture_output=True)
        write_files(self.root, PLACES)
        self.run("migrate", "-v0")
        self.run("createsuperuser", "--noinput", f"--username={self.login}", "--email=editor@example.com")
        self.sql("CREATE TABLE noted (id INTEGER PRIMARY KEY, action, pk, " + ", ".join(COLUMNS) + ")")
        for action, (event, row) in NOTED.items():
            values = ", ".join(f"{row}.{name}" for name in ("id", *COLUMNS))
            self.sql(
                f"CREATE TRIGGER noted_{action} AFTER {event} ON wagtailcore_page BEGIN "
                f"INSERT INTO noted (action, pk, {', '.join(COLUMNS)}) VALUES ('{action}', {values}); END"
            )

    def bind(self, capture: str) -> None:
        """Store the records with this capture mode."""
        self.capture = capture
        folder = self.directory / "home" / "bindings"
        folder.mkdir()
        (folder / "pages.json").write_text(json.dumps([{**record, "capture": capture} for record in RECORDS]))
        if capture == "triggers":
            self.run("declbind", "triggers", "--install")

    def sql(self, statement: str, *values: object) -> list[Any]:
        """Run one statement without Django and return its rows."""
        with closing(sqlite3.connect(self.directory / "db.sqlite3", timeout=PATIENCE)) as connection, connection:
            return connection.execute(statement, values).fetchall()

    def last_noted(self) -> int:
        [[last]] = self.sql("SELECT coalesce(max(id), 0) FROM noted")
        return int(last)

    def recorded_since(self, last: int) -> Counter[tuple[Any, ...]]:
        """Count the recorded writes of pages since then, each by its action, key and values."""
        return Counter(self.sql(f"SELECT action, pk, {', '.join(COLUMNS)} FROM noted WHERE id > ?", last))


@pytest.fixture(scope="module")
def built() -> Iterator[WagtailProject]:
    """Yield a project that is not served, for its files, because migrating takes longest."""
    template = WagtailProject()
    try:
        template.build()
        yield template
    finally:
        template.close()


@pytest.fixture(scope="module", params=["orm", "triggers"])
def project(request: pytest.FixtureRequest, built: WagtailProject) -> Iterator[WagtailProject]:
    """Serve a project, once for each capture mode."""
    server = WagtailProject()
    try:
        shutil.copytree(built.directory, server.directory, dirs_exist_ok=True)
        server.bind(request.param)
        yield server.start()
    finally:
        server.close()


class Editor:
    """A user of Wagtail's admin: a browser, and forms submitted like the browser's."""

    def __init__(self, site: WagtailProject, browser: Browser) -> None:
        self.site = site
        self.context = browser.new_context()
        # Wagtail's admin requests the newest version from its maker, and the user's picture from another site.
        self.context.route(lambda url: not url.startswith(site.url), lambda route: route.abort())
        self.page = self.context.new_page()
        self.page.goto(f"{site.url}/admin/login/")
        self.page.fill("[name=username]", site.login)
        self.page.fill("[name=password]", site.password)
        self.page.press("[name=password]", "Enter")
        self.page.wait_for_url(f"{site.url}/admin/")

    @property
    def cookies(self) -> dict[str, str]:
        return {cookie["name"]: cookie["value"] for cookie in self.context.cookies()}

    def write(self, path: str, title: str, button: str) -> None:
        """Open the form of a page in the browser, write its title and press a button."""
        self.page.goto(f"{self.site.url}/admin/{path}")
        self.page.fill("#id_title", title)
        # Invisible; Wagtail fills it in, for users who type before its scripts are loaded.
        self.page.locator("#id_slug").evaluate("field => { field.value = 'alpha' }")
        # "Publish" is in a collapsed menu.
        with self.page.expect_navigation():
            self.page.locator(f"#page-edit-form {button}").first.evaluate("button => button.click()")

    def post(self, path: str, form: JSONObject, answers: int = 302) -> None:
        """Submit a form of Wagtail's admin, which must accept it."""
        form = {"csrfmiddlewaretoken": self.cookies["csrftoken"], **form}
        answer = self.context.request.post(f"{self.site.url}/admin/{path}", multipart=form, max_redirects=0)
        assert answer.status == answers, answer.text()

    def publish(self, path: str, title: str) -> None:
        """Submit the form of a page, a new one or a stored one, with its button "Publish"."""
        comments = {f"comments-{name}": "0" for name in ("TOTAL_FORMS", "INITIAL_FORMS")}
        self.post(path, {"title": title, "slug": title.lower(), **comments, "action-publish": "action-publish"})


@pytest.fixture
def editor(project: WagtailProject, browser: Browser) -> Iterator[Editor]:
    entered = Editor(project, browser)
    yield entered
    entered.context.close()


@dataclass(frozen=True)
class Heard:
    stream: str
    action: str
    pk: int
    data: JSONObject


class Listener:
    """A client that subscribes with a snapshot and then updates its rows by the changes alone."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.rows: dict[str, dict[int, JSONObject]] = {}
        self.heard: list[Heard] = []
        self._read: dict[str, int] = {}

    def subscribe(self, stream: str) -> None:
        """Subscribe and take the snapshot."""
        self.rows[stream] = {}
        self._read[stream] = len(self.heard)
        payload = {"action": "subscribe", "snapshot": True, "ref": stream}
        self.connection.send(json.dumps({"stream": stream, "payload": payload}))
        while not (answer := self.read()).get("final"):
            assert answer.get("ok", True), answer

    def read(self) -> JSONObject:
        """Read one frame, apply it and return its payload."""
        frame = json.loads(self.connection.recv(PATIENCE))
        stream, payload = frame["stream"], frame["payload"]
        rows = self.rows[stream]
        match payload["action"]:
            case "snapshot":
                rows.update({row["pk"]: row["data"] for row in payload["objects"]})
            case "create" | "update" | "delete":
                heard = Heard(stream, payload["action"], payload["pk"], payload["data"])
                self.heard.append(heard)
                if heard.action == "delete":
                    rows.pop(heard.pk)
                else:
                    rows[heard.pk] = heard.data
            case action:
                assert action == "reply", frame
        assert isinstance(payload, dict)
        return payload

    def until(self, stream: str, action: str, pk: int | None = None, **values: object) -> int:
        """Read up to a change of a row with this data, of any row without ``pk``; return its key.

        Earlier frames of the stream are skipped, so a change that is awaited twice must arrive twice.
        """
        deadline = time.monotonic() + PATIENCE
        passed = []
        while time.monotonic() < deadline:
            while self._read[stream] < len(self.heard):
                heard = self.heard[self._read[stream]]
                self._read[stream] += 1
                if heard.stream != stream:
                    continue
                passed.append(heard)
                if heard.action == action and pk in (None, heard.pk) and values.items() <= heard.data.items():
                    return heard.pk
            try:
                self.read()
            except TimeoutError:
                break
        raise AssertionError(f"expected {action} of {pk} with {values} on {stream}, got {passed}")

    def catch_up(self, other: Listener) -> None:
        """Read until the rows equal those of another client that has just taken its snapshot."""
        while self.rows != other.rows:
            try:
                self.read()
            except TimeoutError:
                assert self.rows == other.rows

    def writes_of_pages(self) -> Counter[tuple[Any, ...]]:
        """Count the received changes of pages, in the form of the recorded writes."""
        return Counter(
            (heard.action, heard.pk, *(heard.data[name] for name in COLUMNS))
            for heard in self.heard
            if heard.stream == "pages"
        )


Listen = Callable[[Editor], Listener]


@pytest.fixture
def listen(project: WagtailProject) -> Iterator[Listen]:
    """Return a function that connects a client as the editor, subscribed to both streams."""
    with ExitStack() as stack:

        def start(editor: Editor) -> Listener:
            headers = {"Cookie": f"sessionid={editor.cookies['sessionid']}"}
            address = f"ws://127.0.0.1:{project.port}/ws/bindings/"
            listener = Listener(stack.enter_context(connect(address, additional_headers=headers)))
            for record in RECORDS:
                listener.subscribe(record["stream"])
            return listener

        yield start
