"""The live page in a browser: pushed or polled, paused without loss, by keyboard, on a narrow screen."""

from __future__ import annotations

import json
import re
import sys
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.utils import timezone

from declbind.models import Activity, Event, Traffic, Watch
from declbind.outbound import relay
from declbind.registry import database_alias
from tests.browser.console import overflow
from tests.browser.test_admin import operator, site, take_pictures
from tests.console_forms import LIST
from tests.servers import DjangoServer

__all__ = ["operator", "site"]

POLICY = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'"


def make(pk, stream="posts", group="blog-1", **values):
    return Event(
        **{"stream": stream, "model": "blog.post", "object_pk": str(pk), "actor": "ann", "origin": "manage.py shell",
           "changes": json.dumps([[group, "update"]], separators=(",", ":")),
           "data": '{"title": "a title", "body": "text"}', "created_at": timezone.now(), **values}
    )  # fmt: skip


def add(pk, **values):
    event = make(pk, **values)
    event.save()
    relay.run_once("default")
    return event


def add_many(count):
    Event.objects.bulk_create(make(pk) for pk in range(1, count + 1))
    relay.run_once("default")


def refuse(**values):
    return Traffic.objects.create(
        **{"at": timezone.now(), "kind": Traffic.REFUSED, "connection": "c", "username": "eve", "stream": "posts",
           "action": "delete", "object_pk": "3", "outcome": "denied", "milliseconds": 1.5,
           "message": "Permission blog.delete_post is needed.", **values}
    )  # fmt: skip


def state(page):
    return page.locator("[data-state]")


def row(page, event):
    return page.locator(f"tr[data-key=e{event.pk}]")


def keep_to_policy(page, complaints):
    """Serve the live page under a strict Content-Security-Policy, and record the browser's violations."""

    def answer(route):
        response = route.fetch()
        route.fulfill(response=response, headers={**response.headers, "content-security-policy": POLICY})

    page.route(re.compile(r"/live/(row/\w+/)?(\?[^/]*)?$"), answer)
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)


def test_the_live_page_updates_itself_and_pauses_without_loss(operator, site, expect):
    """Rows are pushed; those that arrive while it is paused are counted, and appear when it resumes."""
    page = operator
    complaints: list[str] = []
    keep_to_policy(page, complaints)
    page.goto(f"{site.url}{LIST}live/?stream=&q=")
    expect(state(page)).to_have_text("Live")
    expect(row(page, add(1))).to_have_count(1)
    page.get_by_role("button", name="Pause").click()
    late = [add(pk) for pk in (2, 3)]
    expect(state(page)).to_have_text("Paused, 2 waiting")
    expect(row(page, late[0])).to_have_count(0)
    page.get_by_role("button", name="Resume").click()
    for event in late:
        expect(row(page, event)).to_have_count(1)
    expect(state(page)).to_have_text("Live")
    # The newest is first, although the waiting rows were shown later.
    newest = add(4)
    expect(page.locator("[data-rows] tr").first).to_have_attribute("data-key", f"e{newest.pk}")
    for _ in (1, 2):
        page.get_by_role("link", name="Clear").click()
        expect(page.locator("[data-rows] tr")).to_have_count(0)
    refuse()
    expect(page.locator("tr.declbind-row-refused")).to_contain_text("denied")
    page.locator("summary", has_text="shape").or_(page.locator("tr summary")).first.click()
    expect(page.get_by_role("link", name="only this user")).to_be_visible()
    page.get_by_role("navigation", name="Kinds of traffic").get_by_role("link", name="Refused").click()
    expect(page).to_have_url(f"{site.url}{LIST}live/?only=refused")
    expect(page.locator("[data-rows] tr")).to_have_count(1)
    assert complaints == []


def test_jumping_to_now_reports_skipped_rows(operator, site, expect):
    """The page offers to read the skipped rows page by page."""
    page = operator
    page.goto(f"{site.url}{LIST}live/")
    expect(state(page)).to_have_text("Live")
    page.get_by_role("button", name="Pause").click()
    passed = add(1)
    expect(state(page)).to_have_text("Paused, 1 waiting")
    page.get_by_role("link", name="Jump to now").click()
    expect(state(page)).to_have_text("Live, gap")
    expect(page.locator("[data-gap]")).to_contain_text("1 rows are not shown.")
    expect(row(page, add(2))).to_have_count(1)
    expect(row(page, passed)).to_have_count(0)
    page.get_by_role("link", name="Load them page by page").click()
    expect(row(page, passed)).to_have_count(1)


def test_it_works_by_keyboard(operator, site, expect):
    """Keys move between rows, open one, pause and search; in a field they type letters."""
    page = operator
    older, newer = add(1), add(2)
    page.goto(f"{site.url}{LIST}live/")
    expect(state(page)).to_have_text("Live")
    page.keyboard.press("j")
    expect(row(page, newer)).to_be_focused()
    page.keyboard.press("j")
    expect(row(page, older)).to_be_focused()
    page.keyboard.press("k")
    expect(row(page, newer)).to_be_focused()
    page.keyboard.press(" ")
    expect(state(page)).to_have_text("Paused, 0 waiting")
    page.keyboard.press(" ")
    expect(state(page)).to_have_text("Live")
    page.keyboard.press("/")
    expect(page.get_by_label("Text")).to_be_focused()
    page.keyboard.type("j k/")
    expect(page.get_by_label("Text")).to_have_value("j k/")
    page.get_by_label("Text").blur()
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{site.url}{LIST}live/row/e{newer.pk}/")


@pytest.mark.parametrize(("few", "marked"), [(None, 0), (1_000, 60)], ids=["as it is", "control: all are marked"])
def test_rows_that_come_in_a_burst_are_not_marked_as_new(operator, site, expect, few, marked):
    """A single new row is marked; hundreds of running animations would block the browser."""
    page = operator
    if few:

        def mark_more(route):
            response = route.fetch()
            script, count = re.subn(r"const FEW = \d+", f"const FEW = {few}", response.text())
            assert count == 1
            route.fulfill(response=response, body=script)

        page.route("**/live.js", mark_more)
    page.goto(f"{site.url}{LIST}live/")
    expect(state(page)).to_have_text("Live")
    page.evaluate(
        """() => document.addEventListener("animationstart", () => {
            document.body.dataset.started = Number(document.body.dataset.started ?? 0) + 1;
        })"""
    )
    started = page.locator("body")
    add(0)
    expect(started).to_have_attribute("data-started", re.compile(r"[1-9]"))
    page.evaluate("document.body.dataset.started = 0")
    add_many(60)
    expect(page.locator("[data-rows] tr")).to_have_count(61)
    # The start of an animation is reported when the next frame is drawn.
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))))")
    expect(started).to_have_attribute("data-started", str(marked))


def test_recipients_of_a_row_are_filled_in_later(operator, site, expect):
    """The recipients appear a second after the row; the charts continue too."""
    page = operator
    page.goto(f"{site.url}{LIST}live/")
    expect(state(page)).to_have_text("Live")
    event = add(1)
    expect(row(page, event).locator("[data-got]")).to_have_text("\N{EN DASH}")
    # Unless the server has numbered it already.
    relay.run_once(database_alias())
    event.refresh_from_db()
    now = timezone.now().replace(microsecond=0)
    for seconds in (0, 1):
        Activity.objects.create(
            node="n1", at=now - timedelta(seconds=seconds), seconds=1, sent=4 - 4 * seconds, p50=2, p99=2,
            deliveries=[[event.seq or event.pk, 4, 2.0]][seconds:],
        )  # fmt: skip
    expect(row(page, event).locator("[data-got]")).to_have_text("4")
    expect(row(page, event).locator("[data-took]")).to_have_text("2.0 ms")
    expect(page.locator("[data-charts] svg[role=img]").first).to_have_attribute("aria-label", re.compile("at most 4"))


def test_leaving_the_page_ends_the_watch(operator, site, expect):
    """Leaving the page ends the watch; going to one of its own rows or filters does not."""
    page = operator
    event = add(1)
    page.goto(f"{site.url}{LIST}live/")
    expect(state(page)).to_have_text("Live")
    row(page, event).locator("[data-open]").click()
    expect(page.locator(".declbind-steps")).to_be_visible()
    assert Watch.objects.exists()
    page.go_back()
    expect(state(page)).to_have_text("Live")
    page.goto(f"{site.url}{LIST}")
    notes = LogEntry.objects.filter(object_repr="Live traffic").order_by("pk")
    # Sent when the page has already been left: no request of the next page shows that it has arrived.
    for _ in range(100):
        if not Watch.objects.exists() and len(notes.all()) == 2:
            break
        page.wait_for_timeout(50)
    assert [note.change_message for note in notes.all()] == ["Started watching.", "Stopped watching."]


def test_a_page_that_is_being_left_does_not_begin_to_poll(operator, site, expect):
    """Chromium ends the push before it reports that the page is left, which looks like a refusal by the server."""
    page = operator
    page.add_init_script(
        """window.EventSource = class extends EventSource {
            constructor(address) { super(address); window.pushed = this; }
        };"""
    )
    page.goto(f"{site.url}{LIST}live/")
    expect(state(page)).to_have_text("Live")
    asked = []
    page.on("request", lambda request: asked.append(request.url) if "/live/rows/" in request.url else None)
    with page.expect_navigation():
        page.evaluate(
            """(address) => {
                window.pushed.close();
                window.pushed.dispatchEvent(new Event("error"));
                location.assign(address);
            }""",
            f"{site.url}{LIST}",
        )
    assert asked == []


class WsgiServer(DjangoServer):
    """Serve the site by Django's own WSGI server."""

    def command(self):
        return [sys.executable, "-m", "django", "runserver", "--noreload", "--insecure", f"127.0.0.1:{self.port}"]


def test_a_wsgi_site_is_polled(operator, server_env, expect, site):
    """The page says that it polls, and rows arrive."""
    page = operator
    with WsgiServer(env={**server_env, "DEBUG": "1"}) as server:
        (cookie,) = page.context.cookies()
        page.context.add_cookies([{"name": "sessionid", "value": cookie["value"], "url": server.url}])
        page.goto(f"{server.url}{LIST}live/")
        expect(state(page)).to_have_text("Polling")
        expect(row(page, add(1))).to_have_count(1)
        page.get_by_role("button", name="Pause").click()
        add(2)
        expect(state(page)).to_have_text("Paused, 1 waiting")


def test_a_push_that_fails_is_replaced_by_polling(operator, site, expect):
    """Nothing is missed in between. If the site does not answer at all, the page says that it is retrying."""
    page = operator
    page.route("**/live/stream/**", lambda route: route.fulfill(status=503))
    page.goto(f"{site.url}{LIST}live/")
    expect(state(page)).to_have_text("Polling")
    expect(row(page, add(1))).to_have_count(1)
    page.route("**/live/rows/**", lambda route: route.abort())
    expect(state(page)).to_have_text("Reconnecting")
    event = add(2)
    page.unroute("**/live/rows/**")
    expect(row(page, event)).to_have_count(1)


def test_it_fits_a_phone(operator, site, expect):
    """With charts, saved views and a row's own page, only tables scroll sideways."""
    page = operator
    now = timezone.now().replace(microsecond=0)
    for second in range(5, 290):
        wave = second % 40
        Activity.objects.create(
            node="n1", at=now - timedelta(seconds=second), seconds=1, sent=200 + 10 * wave, received=30 + wave,
            refused=max(0, wave - 30), p50=3 + wave / 10, p99=9 + wave,
        )  # fmt: skip
    for pk in range(6):
        event = add(pk, created_at=now - timedelta(seconds=3))
    Activity.objects.create(node="n1", at=now - timedelta(seconds=1), seconds=1, sent=0)
    Event.objects.create(kind=Event.CONTROL, data='{"type": "config", "streams": ["posts"]}', created_at=now)
    refuse(detail='{"fields": {"title": ["Too long."]}, "sent": {"data": {"title": "text, 400 characters"}}}')
    page.goto(f"{site.url}{LIST}live/?q=post")
    page.locator("summary", has_text="Saved views").click()
    page.get_by_label("Keep these filters as").fill("Posts")
    page.get_by_role("button", name="Keep").click()
    expect(page.locator(".success")).to_contain_text("Stored as Posts")
    page.locator("summary", has_text="Saved views").click()
    page.locator(".declbind-saved").get_by_role("link", name="Posts").click()
    expect(page).to_have_url(f"{site.url}{LIST}live/?q=post")
    page.goto(f"{site.url}{LIST}live/")
    expect(state(page)).to_have_text("Live")
    take_pictures(page, "live")
    page.set_viewport_size({"width": 400, "height": 800})
    assert overflow(page) <= 0
    page.goto(f"{site.url}{LIST}live/row/e{event.pk}/")
    page.get_by_role("button", name="Reveal values").click()
    expect(page.locator(".declbind-payload")).to_contain_text("a title")
    assert overflow(page) <= 0
    take_pictures(page, "live-row")


def test_a_busy_stream_takes_few_lines(operator, site, expect):
    """Equal rows that come in are counted as long as another stream is shown, and the keys pass over hidden rows."""
    page = operator
    page.goto(f"{site.url}{LIST}live/")
    expect(state(page)).to_have_text("Live")
    other = add(1, stream="quiet", group="quiet")
    expect(row(page, other)).to_be_visible()
    add_many(9)
    expect(page.get_by_role("link", name="6 more like it")).to_be_visible()
    expect(page.locator("[data-rows] tr:visible")).to_have_count(4)
    for _ in range(4):
        page.keyboard.press("j")
    expect(row(page, other)).to_be_focused()
    page.get_by_role("link", name="6 more like it").click()
    expect(page.locator("[data-rows] tr:visible")).to_have_count(9)


def test_a_busy_stream_does_not_push_out_the_others(operator, site, expect):
    """When the table is full, rows that are only counted leave it first."""
    page = operator
    page.goto(f"{site.url}{LIST}live/")
    expect(state(page)).to_have_text("Live")
    other = add(1, stream="quiet", group="quiet")
    expect(row(page, other)).to_be_visible()
    page.evaluate("""() => {
      // As if the stream had been busy for long: a full table of its rows.
      const body = document.querySelector('[data-rows]');
      for (let number = 0; number < 500; number += 1) {
        const row = document.createElement('tr');
        row.dataset.key = `old-${number}`;
        row.dataset.like = 'out ticker create ';
        body.prepend(row);
      }
    }""")
    newest = add(2, stream="quiet", group="quiet")
    expect(row(page, newest)).to_be_visible()
    expect(row(page, other)).to_be_visible()
    expect(page.locator("[data-rows] tr")).to_have_count(500)
