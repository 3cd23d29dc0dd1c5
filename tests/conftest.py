"""Fixtures for the real servers, a browser and the environment of a server process; the choice of tests by database.

No fixture here skips: it starts what a test needs, or the test fails and says what is missing.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any, TypeVar

import hypothesis
import pytest
import pytest_django
from django.db import connections

from tests import clean_database
from tests.selection import ROOT, may_select, select
from tests.servers import DjangoServer, MariaDBServer, PostgresServer, RedisServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

T = TypeVar("T")

# Chromium otherwise contacts its maker's hosts at every start.
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


# The speed of an example depends on the machine, which may be busy.
hypothesis.settings.register_profile("declbind", deadline=None)
hypothesis.settings.load_profile("declbind")


# Which tests run --------------------------------------------------------------------------------------------


def this_round() -> tuple[str, str]:
    """Return the database and the choice of this round."""
    return os.environ.get("TEST_DATABASE", "sqlite"), os.environ.get("TEST_CHOICE", "")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out the modules and folders of which the round runs no test; importing them all takes some seconds."""
    if collection_path.is_relative_to(ROOT) and not may_select(collection_path, *this_round()):
        return True
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests that the round on this database does not repeat."""
    chosen = [item for item in items if select(item, *this_round())]
    kept = set(chosen)
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = chosen


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs_triggers: skip where declbind has no database triggers")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("needs_triggers") is not None and connections["default"].vendor == "mysql":
        pytest.skip("declbind has no triggers for MySQL and MariaDB")


# Databases and servers --------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def django_db_keepdb() -> bool:
    """Keep the test database at the end of the run.

    It is removed with its temporary file or server anyway, and PostgreSQL refuses to drop it while a connection of
    some worker thread is still open.
    """
    return True


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: pytest_django.DjangoDbBlocker) -> None:
    """Make the test database, and clean it without a flush after each test that commits."""
    with django_db_blocker.unblock():
        clean_database.install()


@pytest.fixture(scope="session")
def postgres_process() -> Iterator[PostgresServer]:
    """Run one PostgreSQL for tests to stop and kill, never the one that `TEST_DATABASE=postgres` uses."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres_server(postgres_process: PostgresServer) -> PostgresServer:
    """Return a running PostgreSQL, whatever the previous test did to it."""
    postgres_process.resume()
    return postgres_process.start()


@pytest.fixture
def postgres_database(postgres_server: PostgresServer, database_names: Iterator[str]) -> str:
    """Create an empty PostgreSQL database for this test and return its URL."""
    return postgres_server.create_database(next(database_names))


@pytest.fixture(scope="session")
def mariadb_process() -> Iterator[MariaDBServer]:
    """Run one MariaDB for tests to stop and kill, never the one that `TEST_DATABASE=mariadb` uses."""
    with MariaDBServer() as server:
        yield server


@pytest.fixture
def mariadb_server(mariadb_process: MariaDBServer) -> MariaDBServer:
    """Return a running MariaDB, whatever the previous test did to it."""
    mariadb_process.resume()
    return mariadb_process.start()


@pytest.fixture
def mariadb_database(mariadb_server: MariaDBServer, database_names: Iterator[str]) -> str:
    """Create an empty MariaDB database for this test and return its URL."""
    return mariadb_server.create_database(next(database_names))


@pytest.fixture(scope="session")
def database_names() -> Iterator[str]:
    return (f"declbind_{number}" for number in itertools.count(1))


@pytest.fixture(scope="session")
def redis_process() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_server(redis_process: RedisServer) -> RedisServer:
    """Return a running, empty Redis, whatever the previous test did to it."""
    redis_process.resume()
    redis_process.start().flush()
    return redis_process


def database_url(settings: Mapping[str, Any]) -> str:
    """Return an entry of `connections.settings`, of a database of this suite, as the URL of `DATABASE_URL`."""
    if settings["ENGINE"].endswith("sqlite3"):
        return f"sqlite:///{settings['NAME']}"
    scheme = "mysql" if settings["ENGINE"].endswith("mysql") else "postgres"
    return f"{scheme}://{settings['USER']}@{settings['HOST']}:{settings['PORT']}/{settings['NAME']}"


@pytest.fixture
def server_env(transactional_db: None) -> dict[str, str | None]:
    """Return the environment in which another process works on the database of this test.

    It needs real commits, hence `transactional_db`. None means that a variable is unset.
    """
    return {
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DATABASE_URL": database_url(connections["default"].settings_dict),
        "TEST_DATABASE": None,
        "CHANNEL_LAYER_URL": None,
    }


@pytest.fixture
def django_server(server_env: dict[str, str | None]) -> Iterator[Callable[..., DjangoServer]]:
    """Return a function that starts the site in a process of its own on the database of this test.

    It takes the arguments of `DjangoServer`; `env` is laid over `server_env`. All of them end with the test.
    """
    servers: list[DjangoServer] = []

    def start(*args: Any, env: Mapping[str, str | None] | None = None, **kwargs: Any) -> DjangoServer:
        servers.append(DjangoServer(*args, env={**server_env, **(env or {})}, **kwargs))
        return servers[-1].start()

    yield start
    for server in reversed(servers):
        server.close()


# The browser ------------------------------------------------------------------------------------------------


class BrowserThread:
    """A thread that runs Playwright and lends its objects to the tests.

    Playwright's sync interface leaves an event loop running in its thread. In the thread of the tests that would
    make each query a SynchronousOnlyOperation and stop the async tests. Disabling those checks would also change
    what the code under test sees. The tests therefore hold stand-ins, which pass each call to the thread and wait
    for its result. A function given to Playwright (`page.on(...)`) is called in the browser's thread, with the real
    objects.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="browser")

    def call(self, function: Callable[..., T], *args: object, **kwargs: object) -> T:
        def run() -> T:
            return function(*map(self._unwrap, args), **{key: self._unwrap(kwargs[key]) for key in kwargs})

        result: T = self._wrap(self._executor.submit(run).result())
        return result

    def close(self) -> None:
        self._executor.shutdown()

    def _wrap(self, value: object) -> Any:
        if isinstance(value, list):
            return [self._wrap(item) for item in value]
        owner = value.__self__ if isinstance(value, MethodType) else value
        # Errors and plain values can be used in any thread.
        if type(owner).__module__.startswith("playwright.") and not isinstance(owner, BaseException | str | dict):
            return StandIn(self, value)
        return value

    def _unwrap(self, value: object) -> object:
        if type(value) is StandIn:
            return object.__getattribute__(value, "_target")
        return [self._unwrap(item) for item in value] if isinstance(value, list) else value


class StandIn:
    """A stand-in for one of Playwright's objects, which passes every use to the browser's thread."""

    def __init__(self, thread: BrowserThread, target: object) -> None:
        object.__setattr__(self, "_thread", thread)
        object.__setattr__(self, "_target", target)

    def _call(self, function: Callable[..., object], *args: object, **kwargs: object) -> object:
        return self._thread.call(function, self, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return self._call(getattr, name)

    def __setattr__(self, name: str, value: object) -> None:
        self._call(setattr, name, value)

    def __call__(self, *args: object, **kwargs: object) -> object:
        return self._call(lambda target, *a, **k: target(*a, **k), *args, **kwargs)

    def __enter__(self) -> object:
        return self._call(lambda target: target.__enter__())

    def __exit__(self, *exc_info: object) -> object:
        return self._call(lambda target: target.__exit__(*exc_info))

    def __repr__(self) -> str:
        return str(self._call(repr))


def find_chromium(
    names: Sequence[str] = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
) -> str:
    """Return the path of an installed Chromium, or "" to use Playwright's own."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    return found or ""


@pytest.fixture(scope="session")
def browser_thread() -> Iterator[BrowserThread]:
    thread = BrowserThread()
    yield thread
    thread.close()


@pytest.fixture(scope="session")
def chromium() -> str:
    return find_chromium()


@pytest.fixture(scope="session")
def browser(browser_thread: BrowserThread, chromium: str) -> Iterator[Browser]:
    """Return a headless Chromium; `browser.new_context()` gives a second user with cookies of its own."""
    from playwright.sync_api import sync_playwright

    playwright = browser_thread.call(lambda: sync_playwright().start())
    launched = playwright.chromium.launch(executable_path=chromium or None, args=CHROMIUM_FLAGS)
    yield launched
    launched.close()
    playwright.stop()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Return an empty page in a context of its own; an uncaught error in its scripts fails the test."""
    errors: list[str] = []
    context = browser.new_context()
    opened = context.new_page()
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.set_default_timeout(15_000)
    yield opened
    context.close()
    assert errors == [], "the page's scripts threw"


@pytest.fixture(scope="session")
def expect(browser_thread: BrowserThread) -> Callable[..., object]:
    """Return Playwright's `expect`, which waits for what it asserts, for the stand-ins of `page`."""
    from playwright.sync_api import expect as playwright_expect

    return lambda *args, **kwargs: browser_thread.call(playwright_expect, *args, **kwargs)
