"""The example site as visitors use it, on SQLite alone and on PostgreSQL with Redis, configured by environment."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Expect, Page

from tests.servers import RedisServer, Server

MANAGE = Path(__file__).parent.parent.parent / "example_site" / "manage.py"


def clean_environment(**values: str) -> dict[str, str]:
    """Return a new user's environment with these variables, without the suite's own settings."""
    names = ("DJANGO", "DATABASE", "TEST", "CHANNEL", "DEBUG", "SECRET")
    return {**{key: value for key, value in os.environ.items() if not key.startswith(names)}, **values}


class Demo(Server):
    """The site as `make demo` starts it, on a database of its own."""

    name = "demo"

    def __init__(self, **env: str) -> None:
        super().__init__()
        self.env = {"DATABASE_URL": f"sqlite:///{self.directory}/demo.sqlite3", **env}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        return [sys.executable, str(MANAGE), "demo", "--port", str(self.port), "--speed", "900"]

    def environment(self) -> Mapping[str, str]:
        return clean_environment(PYTHONUNBUFFERED="1", **self.env)


@pytest.fixture(params=["sqlite", "postgres"])
def demo(request: pytest.FixtureRequest) -> Iterator[Demo]:
    """Serve the demo: on SQLite without Redis, and on PostgreSQL with Redis."""
    env = {}
    if request.param == "postgres":
        redis: RedisServer = request.getfixturevalue("redis_server")
        env = {"DATABASE_URL": request.getfixturevalue("postgres_database"), "CHANNEL_LAYER_URL": redis.url}
    server = Demo(**env)
    try:
        yield server.start()
    finally:
        server.close()


def visit(browser: Browser, demo: Demo, user: str | None) -> Page:
    """Open a browser for one of the demo's users, with the password that the demo printed."""
    page = browser.new_context().new_page()
    if user is not None:
        password = re.search(rf"{user}\s+/ (\S+)", demo.log_text())
        assert password is not None
        page.goto(f"{demo.url}/accounts/login/")
        page.fill("input[name=username]", user)
        page.fill("input[name=password]", password[1])
        page.press("input[name=password]", "Enter")
        page.wait_for_url(f"{demo.url}/")
    return page


def test_the_pages_of_the_site_are_updated_live(demo: Demo, browser: Browser, expect: Expect) -> None:
    """A number changed on one board changes on the other, a post reaches its readers, and the chart draws itself."""
    editor, reader = visit(browser, demo, "editor"), visit(browser, demo, None)

    for page in (editor, reader):
        page.goto(f"{demo.url}/board/")
    tile = reader.locator(".tile", has_text="Open tickets")
    expect(tile.locator(".number")).to_have_text("23")
    editor.locator(".tile", has_text="Open tickets").locator("[data-step='1']").click()
    expect(tile.locator(".number")).to_have_text("24")

    for page in (editor, reader):
        page.goto(f"{demo.url}/blog/")
        page.locator("a.card").first.click()
    editor.fill("#new-title", "Breaking")
    editor.fill("#new-body", "It works.")
    editor.click("[data-create] button")
    expect(reader.locator(".post", has_text="Breaking")).to_be_visible()
    editor.click("[data-create] button")
    expect(editor.locator("#new-title-error")).not_to_be_empty()

    reader.goto(f"{demo.url}/ticker/")
    prices = reader.locator("[data-symbol=IBM] [data-price]")
    expect(prices).to_have_text(re.compile(r"\d"))
    first = prices.inner_text()
    expect(prices).not_to_have_text(first)
    expect(reader.locator(".chart svg path, .chart canvas").first).to_be_visible()
    for page in (editor, reader):
        page.context.close()


def test_the_operator_sees_the_traffic(demo: Demo, browser: Browser, expect: Expect) -> None:
    """The demo's operator opens the live page and sees outgoing frames and an editor's request."""
    operator, editor = visit(browser, demo, "operator"), visit(browser, demo, "editor")
    operator.goto(f"{demo.url}/admin/declbind/bindingrecord/live/")
    expect(operator.locator("tr", has_text="ticker-").first).to_be_visible()
    editor.goto(f"{demo.url}/board/")
    step = editor.locator(".tile", has_text="Open tickets").locator("[data-step='1']")
    request = operator.locator("tr", has_text="intval").filter(has_text="editor").filter(has_text="update")
    # Requests are recorded once a process has seen that someone watches, which takes up to a second.
    for _ in range(30):
        step.click()
        operator.wait_for_timeout(500)
        if request.count():
            break
    expect(request.first).to_be_visible()
    for page in (operator, editor):
        page.context.close()


def test_the_demo_refuses_public_passwords_in_production() -> None:
    """With DEBUG off the demo does not start, creates no user, and says what to do instead."""
    done = subprocess.run(
        [sys.executable, str(MANAGE), "demo", "--prepare-only"],
        env=clean_environment(DEBUG="0", SECRET_KEY="a-secret-of-this-test", DATABASE_URL="sqlite://:memory:"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "passwords are public" in done.stderr
    assert "editor-demo" not in done.stdout
