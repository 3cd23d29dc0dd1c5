"""The example site as visitors use it, on SQLite alone and on PostgreSQL with Redis, configured by environment."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Browser, Expect, Page

from declbind.inbound.revocation import kick
from declbind.models import Connection
from declbind.outbound import relay
from declbind.registry import database_alias
from example_site.example.models import IntegerValue
from tests.browser.console import opened
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


@pytest.mark.django_db(transaction=True)
def test_a_page_shows_why_it_was_disconnected_and_comes_back(django_server, page, expect) -> None:
    """An operator's reason is on the page for a moment; then the page is live again without a reload."""
    server = django_server(env={"DEBUG": "1"})
    page.goto(f"{server.url}/board/")
    status = page.locator("[data-status]")
    expect(status).to_have_text("Live")
    for _ in range(100):
        if (connection := Connection.objects.filter(closed_at=None).first()) is not None:
            break
        page.wait_for_timeout(100)
    assert connection is not None
    kick(connection=connection.pk, reason="Maintenance at noon")
    relay.run_once(database_alias())
    expect(status).to_have_text("Disconnected: Maintenance at noon. Trying again", timeout=15_000)
    expect(status).to_have_text("Live", timeout=15_000)


@pytest.mark.django_db(transaction=True)
def test_a_page_without_scripts_says_so_and_loses_no_text(django_server, browser: Browser, expect: Expect) -> None:
    """Its text is there, and a form that would need a script cannot be sent."""
    user = User.objects.create_user("reader", password="x")
    IntegerValue.objects.create(name="Open tickets", value=23)
    server = django_server(env={"DEBUG": "1"})
    with opened(browser, server.url, user, java_script_enabled=False) as page:
        page.goto(f"{server.url}/board/")
        expect(page.locator("main")).to_contain_text("Not live: JavaScript is off")
        expect(page.locator("main")).not_to_contain_text("Connecting")
        expect(page.locator(".tile")).to_contain_text("Open tickets")
        page.fill("#new-name", "typed")
        page.press("#new-name", "Enter")
        expect(page.locator("#new-name")).to_have_value("typed")
        expect(page.get_by_role("button", name="Add")).to_be_disabled()
        page.goto(f"{server.url}/ticker/")
        expect(page.locator("main")).to_contain_text("The chart is drawn with JavaScript.")
        expect(page.get_by_text("Waiting for the first prices")).to_be_hidden()
    with opened(browser, server.url, user) as page:
        page.goto(f"{server.url}/board/")
        expect(page.get_by_role("button", name="Add")).to_be_enabled()
