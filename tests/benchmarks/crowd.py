"""Measurement of the console under load: many bindings, open sockets and events, all at the same time."""

from __future__ import annotations

import json
import resource
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psutil  # type: ignore[import-untyped]

from tests.conftest import CHROMIUM_FLAGS, find_chromium

from .arena import PATH, SERVER_ARGUMENTS, Arena, Program
from .console import (
    LIST,
    LIVE,
    MAX_ROWS,
    PER_SECOND,
    WARM_UP_SECONDS,
    Set,
    begin_blocking_times,
    heap,
    longest_blocking_time,
    start_site,
)
from .contenders import DECLBIND
from .counting import HEADER
from .idle import SPARE_FILES
from .progress import Progress
from .report import Figure, Goal, Section, Tally

BINDINGS = 1_000
CONNECTIONS = "/admin/declbind/bindingrecord/connections/"
#: The quiet streams that the sockets are spread over; events are on the others.
QUIET_STREAMS = 100
#: One in this number of sockets, and of events, is on the one stream with both.
ONE_IN = 100
HEARD = "heard"
#: The time that an operator spends on a page before requesting the next one.
LOOKING_SECONDS = 0.5
#: The process writes its connections in portions, once a second.
LISTED_SECONDS = 60.0


@dataclass
class Answers:
    """The server's answers to an operator who requests one page repeatedly."""

    milliseconds: list[float] = field(default_factory=list)
    queries: list[int] = field(default_factory=list)

    def ask(self, site: Set, path: str) -> None:
        started = time.monotonic()
        answer = site.request("GET", path)
        answer.read()
        self.milliseconds.append(1000 * (time.monotonic() - started))
        assert answer.status == 200, f"{path}: expected 200, got {answer.status}"
        self.queries.append(int(answer.headers[HEADER]))

    @property
    def times(self) -> str:
        return f"{statistics.median(self.milliseconds):,.0f} / {max(self.milliseconds):,.0f}"


class Crowd:
    """Clients with a socket each, most of them on streams without events."""

    def __init__(self, arena: Arena, port: int) -> None:
        path = arena.directory / "crowd.progress"
        self.progress = Progress.create(path)
        env, log = arena.environment(DECLBIND), arena.directory / "crowd.log"
        self.program = Program("client", str(port), PATH, str(path), env=env, log=log)
        self.hearing = 0

    def connect(self, wanted: int) -> None:
        """Open the sockets; each is subscribed when this returns."""
        self.hearing = wanted // ONE_IN
        self._connect(self.hearing, HEARD)
        for number in range(QUIET_STREAMS):
            self._connect(self.hearing + (wanted - self.hearing) * (number + 1) // QUIET_STREAMS, f"many-{number}")

    def _connect(self, size: int, stream: str) -> None:
        request = {"stream": stream, "payload": {"action": "subscribe", "params": {}, "ref": 1}}
        self.program.ask(do="connect", clients=size, subscribe=json.dumps(request))


def measure(arena: Arena, wanted: int, seconds: float) -> Section:
    """Return the times that operators and clients see on a site with all kinds of load at once."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    sockets = min(wanted, limit - SPARE_FILES)
    section = Section(
        f"The console with {BINDINGS:,} bindings, {sockets:,} open sockets and {PER_SECOND:,} events a second "
        f"for {seconds:.0f} s"
    )
    if sockets < wanted:
        section.notes.append(f"{wanted:,} wanted, the limit of open files is {limit:,}")
    with start_site(arena, "crowd", SERVER_ARGUMENTS) as site:
        site.backstage.ask(do="publish", count=BINDINGS, heard=HEARD)
        crowd = Crowd(arena, site.server.port)
        with crowd.program, _browser(site) as (listing, live):
            started = time.monotonic()
            crowd.connect(sockets)
            section.add("time to connect and subscribe, ms", _mine(1000 * (time.monotonic() - started) / sockets))
            before = _await_listed(site, sockets)
            _burst(site, crowd, listing, live, seconds, section)
            after = _await_listed(site, sockets)
            closed = crowd.program.ask(do="report")["closed"]
    section.rows[:0] = [
        ("sockets open before", {DECLBIND: f"{sockets:,}"}),
        ("sockets open after", {DECLBIND: f"{sockets - closed:,}"}),
        ("  as the console counts them", {DECLBIND: f"{before:,} / {after:,}"}),
    ]
    section.goals.insert(0, Goal("sockets lost", Figure(max(closed, sockets - after)), at_most=0))
    return section


def _burst(site: Set, crowd: Crowd, listing: Any, live: Any, seconds: float, section: Section) -> None:
    feed: dict[str, Any] = {
        "do": "feed", "per_second": PER_SECOND, "heard": HEARD, "one_in": ONE_IN,
        "streams": [f"many-{number}" for number in range(QUIET_STREAMS, BINDINGS)],
    }  # fmt: skip
    warm = site.backstage.ask(**feed, seconds=WARM_UP_SECONDS)
    _await_frames(crowd, warm["heard"] * crowd.hearing)
    crowd.program.ask(do="start", record=False, nap=0.0)
    server = psutil.Process(site.server.pid)
    memory, heap_before = server.memory_info().rss, heap(live)
    over = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        site.backstage.tell(**feed, seconds=seconds)
        began, used = time.monotonic(), sum(server.cpu_times()[:2])
        operator = pool.submit(_ask_for_pages, site, over)
        begin_blocking_times(live)
        try:
            _use(listing, live, began + seconds)
            longest = longest_blocking_time(live)
            fed = site.backstage.answer()
        finally:
            over.set()
        cpu = (sum(server.cpu_times()[:2]) - used) / (time.monotonic() - began)
        pages = operator.result()
    expected = fed["heard"] * crowd.hearing
    _await_frames(crowd, expected)
    live.wait_for_timeout(2_000)
    heap_after, rows = heap(live), live.evaluate("document.querySelectorAll('[data-rows] tr').length")
    said = live.locator("[data-state]").inner_text()
    section.add("events fed", {DECLBIND: f"{fed['events']:,}"})
    section.add("  a second", _mine(fed["events"] / fed["seconds"]))
    total = crowd.program.ask(do="report")["total"]
    section.tally({DECLBIND: Tally(total, expected, max(expected - total, 0))})
    for label, found in pages.items():
        section.add(f"{label}: times asked for", {DECLBIND: f"{len(found.queries)}"})
        section.add("  most queries", _mine(max(found.queries)))
        section.add("  ms, median / slowest", {DECLBIND: found.times})
    section.add("live page: heap before, KiB", _mine(heap_before / 1024))
    section.add("  heap after, KiB", _mine(heap_after / 1024))
    section.add("  rows on the page", _mine(rows))
    section.add("  longest turn of the page's loop, ms", _mine(longest))
    section.add("  state in the end", {DECLBIND: said})
    section.add("server: % of a core", _mine(100 * cpu))
    section.add("  MiB before the burst", _mine(memory / 2**20))
    section.add("  MiB after it", _mine(server.memory_info().rss / 2**20))
    section.goals = [
        Goal("queries of the list", Figure(max(pages["list"].queries)), at_most=12),
        Goal("heap after, of before", Figure(heap_after).over(Figure(heap_before)), at_most=1.25),
        Goal("rows on the page", Figure(rows), at_most=MAX_ROWS),
        Goal("the live page says that it is live (1: yes)", Figure(said.strip() == "Live"), at_least=1),
    ]


def _ask_for_pages(site: Set, over: threading.Event) -> dict[str, Answers]:
    """Act as an operator who alternates between the list and the connections."""
    pages = {"list": Answers(), "connections": Answers()}
    while True:
        for label, path in (("list", LIST), ("connections", CONNECTIONS)):
            pages[label].ask(site, path)
            if over.wait(LOOKING_SECONDS):
                return pages


def _use(listing: Any, live: Any, until: float) -> None:
    """Search the list and move through the rows of the live page, alternately, like a user with two tabs."""
    turn = 0
    while time.monotonic() < until:
        turn += 1
        listing.fill("#searchbar", f"many-{turn}")
        listing.press("#searchbar", "Enter")
        listing.wait_for_selector("#result_list tbody tr")
        live.keyboard.press("j")
        live.wait_for_timeout(1_000)


@contextmanager
def _browser(site: Set) -> Iterator[tuple[object, object]]:
    """Open the list and the live page in Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium() or None, args=CHROMIUM_FLAGS)
        context = browser.new_context()
        context.add_cookies([{"name": "sessionid", "value": site.session, "url": site.server.url}])
        listing, live = context.new_page(), context.new_page()
        listing.goto(f"{site.server.url}{LIST}")
        live.goto(f"{site.server.url}{LIVE}")
        live.wait_for_selector('[data-state][data-kind="live"]')
        try:
            yield listing, live
        finally:
            browser.close()


def _await_listed(site: Set, sockets: int) -> int:
    """Return the number of open sockets in the console as soon as it is complete, at the latest after a minute."""
    deadline = time.monotonic() + LISTED_SECONDS
    while True:
        count: int = site.backstage.ask(do="connections")
        if count >= sockets or time.monotonic() > deadline:
            return count
        time.sleep(0.5)


def _await_frames(crowd: Crowd, expected: int) -> None:
    deadline = time.monotonic() + 30.0
    while crowd.progress.value < expected and time.monotonic() < deadline:
        time.sleep(0.1)


def _mine(value: float) -> dict[str, Figure | str]:
    return {DECLBIND: Figure(value)}
