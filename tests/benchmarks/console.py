"""Measurement of the operator's console: a writer that is watched, a long list, and a browser in a burst."""

from __future__ import annotations

import http.client
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from tests.conftest import CHROMIUM_FLAGS, find_chromium
from tests.servers import ROOT, DjangoServer

from . import contenders
from .arena import Arena, Program
from .report import Figure, Goal, Section

LIST = "/admin/declbind/bindingrecord/"
LIVE = f"{LIST}live/"
PER_SECOND = 2_000
#: A process detects within a second that watching has begun or ended.
SETTLE_SECONDS = 2.5
#: How long a lease lasts after its page was left without a request.
WARM_UP_SECONDS = 8.0
MAX_ROWS = 500


class Set:
    """A site with an operator: the server, and the program inside it."""

    def __init__(self, server: DjangoServer, backstage: Program) -> None:
        self.server, self.backstage = server, backstage
        self.session: str = backstage.ask(do="enter")

    def request(self, method: str, path: str, **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        connection.request(method, path, headers={"Cookie": f"sessionid={self.session}", **headers})
        return connection.getresponse()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Keep the live page's stream open, and read it as a page would."""
        page = self.request("GET", LIVE)
        text = page.read().decode()
        cursor = text.split('data-cursor="')[1].split('"')[0]
        token = text.split('name="csrfmiddlewaretoken" value="')[1].split('"')[0]
        cookie = next(value for name, value in page.getheaders() if value.startswith("csrftoken=")).split(";")[0]
        stream = self.request("GET", f"{LIVE}stream/?cursor={cursor}")
        reading = threading.Thread(target=_drain, args=(stream,), daemon=True)
        reading.start()
        time.sleep(SETTLE_SECONDS)
        try:
            yield
        finally:
            stream.close()
            both = {"Cookie": f"sessionid={self.session}; {cookie}", "X-CSRFToken": token}
            assert self.request("POST", f"{LIVE}stop/", **both).status == 204
            time.sleep(SETTLE_SECONDS)


def _drain(stream: http.client.HTTPResponse) -> None:
    try:
        while stream.read1(65_536):
            pass
    except (OSError, ValueError, AttributeError, http.client.HTTPException):
        return


@contextmanager
def start_site(arena: Arena, name: str, arguments: Sequence[str] = ()) -> Iterator[Set]:
    """Run the example site on a database of its own."""
    path = arena.directory / f"console-{name}.sqlite3"
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.benchmarks.operated",
        "DATABASE_URL": f"sqlite:///{path}",
        "DEBUG": "0",
    }
    migrate = [sys.executable, "-m", "django", "migrate", "--verbosity", "0"]
    subprocess.run(migrate, env=env, cwd=ROOT, check=True)
    with ExitStack() as stack:
        app = "tests.benchmarks.operated_asgi:application"
        server = stack.enter_context(DjangoServer(app, env=dict(env), arguments=arguments))
        program = Program("backstage", env=env, log=arena.directory / "backstage.log")
        yield Set(server, stack.enter_context(program))


def measure_writer(arena: Arena, rounds: int, saves: int) -> Section:
    """Return the saves per second of a writer, alternately unwatched and watched."""
    section = Section("A writer while somebody watches the live page: saves a second (median)")
    free, watched = [], []
    with start_site(arena, "writer") as site:
        # From then on the process has a hub, which reads the log whether it is watched or not.
        with site.watching():
            site.backstage.ask(do="saves", count=saves)
        free.append(site.backstage.ask(do="saves", count=saves))
        for _ in range(rounds):
            with site.watching():
                watched.append(site.backstage.ask(do="saves", count=saves))
            free.append(site.backstage.ask(do="saves", count=saves))
    for label, runs in (("nobody watches", free), ("somebody watches", watched)):
        section.add(label, {contenders.DECLBIND: Figure(statistics.median(rate for rate, _ in runs))})
        section.add(
            "  µs of the writer's CPU for a save",
            {contenders.DECLBIND: Figure(statistics.median(cpu for _, cpu in runs))},
        )
    # Each is compared with the two beside it: the machine's load changes more slowly than the rounds.
    pairs = zip(watched, free, free[1:], strict=False)
    ratio = statistics.median(2 * beside / (before + after) for (beside, _), (before, _), (after, _) in pairs)
    section.goals.append(Goal("watched, of unwatched (median of rounds)", Figure(ratio), at_least=0.95))
    return section


def measure_list(arena: Arena, bindings: int, times: int) -> Section:
    """Return the cost of the list of bindings when there are many."""
    with start_site(arena, "list") as site:
        count = site.backstage.ask(do="bindings", count=bindings)
        answer = site.backstage.ask(do="list", times=times)
    section = Section(f"The list of bindings, {count:,} of them")
    queries = Figure(answer["queries"])
    section.add("queries of a page", {contenders.DECLBIND: queries})
    section.add("milliseconds (median)", {contenders.DECLBIND: Figure(answer["milliseconds"])})
    section.goals.append(Goal("queries", queries, at_most=12))
    return section


def measure_browser(arena: Arena, seconds: float) -> Section:
    """Return the memory of the live page before and after a burst, in a real browser."""
    from playwright.sync_api import sync_playwright

    section = Section(f"The live page at {PER_SECOND:,} events a second for {seconds:.0f} s, in Chromium")
    with start_site(arena, "browser") as site, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium() or None, args=CHROMIUM_FLAGS)
        context = browser.new_context()
        context.add_cookies([{"name": "sessionid", "value": site.session, "url": site.server.url}])
        page = context.new_page()
        page.goto(f"{site.server.url}{LIVE}")
        page.wait_for_selector('[data-state][data-kind="live"]')
        # The table is full, and every part of the script has run, before memory is first measured.
        site.backstage.ask(do="feed", per_second=PER_SECOND, seconds=WARM_UP_SECONDS)
        before = heap(page)
        site.backstage.tell(do="feed", per_second=PER_SECOND, seconds=seconds)
        begin_blocking_times(page)
        page.wait_for_timeout(1000 * seconds)
        slowest = longest_blocking_time(page)
        fed = site.backstage.answer()
        page.wait_for_timeout(2_000)
        after = heap(page)
        rows = page.evaluate("document.querySelectorAll('[data-rows] tr').length")
        said = page.locator("[data-state]").inner_text()
        browser.close()
    mine = contenders.DECLBIND
    section.add("events", {mine: f"{fed['events']:,}"})
    section.add("heap before, KiB", {mine: Figure(before / 1024)})
    section.add("heap after, KiB", {mine: Figure(after / 1024)})
    section.add("rows on the page", {mine: Figure(rows)})
    section.add("longest turn of the page's loop, ms", {mine: Figure(slowest)})
    section.add("state in the end", {mine: said})
    section.goals = [
        Goal("heap after, of before", Figure(after).over(Figure(before)), at_most=1.25),
        Goal("rows on the page", Figure(rows), at_most=MAX_ROWS),
    ]
    return section


def heap(page: Any) -> float:
    """Return the bytes of a page's live objects."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    used: float = session.send("Runtime.getHeapUsage")["usedSize"]
    session.detach()
    return used


def begin_blocking_times(page: Any) -> None:
    """Start measuring for how long the page does not respond."""
    page.evaluate(
        """() => {
            let before = performance.now();
            window.turns = { longest: 0, timer: 0 };
            const turn = () => {
                const now = performance.now();
                window.turns.longest = Math.max(window.turns.longest, now - before);
                before = now;
                window.turns.timer = setTimeout(turn, 10);
            };
            turn();
        }"""
    )


def longest_blocking_time(page: Any) -> float:
    """Return the longest time without a response, in milliseconds."""
    longest: float = page.evaluate("() => (clearTimeout(window.turns.timer), window.turns.longest)")
    return longest
