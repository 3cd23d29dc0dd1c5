"""Shared parts of the tests of the console's screens: content on every screen, accessibility rules, pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Page

from declbind.console.why.events import offset_of
from declbind.models import Activity, BindingRecord, BindingRevision, Connection, Event, Node, Traffic
from declbind.outbound import relay
from declbind.registry import database_alias
from example_site.blog.models import Blog, Post
from tests.console_forms import spoil
from tests.json_types import JSONObject

#: The folder for pictures of every screen, for people to look at; none are taken without it.
PICTURES = os.environ.get("DECLBIND_PICTURES", "")
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
#: Only declbind's own pages are checked: the frame around them is Django's.
AXE_RUN = """async () => {
  // Django's links change their color over some time when the scheme changes.
  const transitions = document.getAnimations().filter((each) => each instanceof CSSTransition);
  await Promise.allSettled(transitions.map(({finished}) => finished));
  const found = await axe.run(document.querySelector('#content') ?? document, {
    resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice'],
  });
  return found.violations.filter(({impact}) => ['serious', 'critical'].includes(impact)).flatMap(
    ({id, nodes}) => nodes.map((node) => `${id}: ${node.target.join(' ')}`));
}"""


def log_in(context: Any, url: str, user: User) -> None:
    """Put a user's session into a browser context."""
    client = Client()
    client.force_login(user)
    context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": url}])


def fill_console() -> JSONObject:
    """Store content for every screen; return the values that their addresses need."""
    now = timezone.now()
    blog = Blog.objects.create(title="News", slug="news")
    record = BindingRecord.objects.create(
        stream="articles", model="blog.Post", fields=["title", "body"], groups=["blog-{blog_id}"],
        permissions={"view": True, "create": "blog.add_post", "delete": False}, description="Posts, live.",
    )  # fmt: skip
    record.description = "Posts of a blog, live for its readers."
    record.save()
    growing = BindingRecord.objects.create(
        stream="prices", model="ticker.Price", fields="__all__", direction="outbound", enabled=False
    )
    spoil(growing, known=(growing.known or [])[1:])
    watched = BindingRecord.objects.create(
        stream="watched", model="blog.Post", fields=["title"], capture="triggers", also=["author", "author__groups"]
    )
    bad = BindingRecord.objects.create(stream="bad", model="blog.Post", fields=["title"])
    spoil(bad, fields=["titel"])
    post = Post.objects.create(blog=blog, title="Hello", body="World", published=True)
    Node.objects.create(
        id="n",
        host="web-1",
        pid=7,
        started_at=now,
        seen_at=now,
        streams={"articles": 2},
        connections=2,
        subscriptions=2,
    )
    # No process that numbers events is running yet.
    relay.run_once(database_alias())
    latest = Event.objects.latest("pk")
    offset = offset_of(latest) or 0
    heard = json.dumps([["articles", f"blog-{blog.pk}", None, offset - 1, ""]], separators=(",", ":"))
    Connection.objects.create(
        id="c1", node="n", username="ann", user_pk="77", address="192.0.2.0/24", client="Browser/1.0", opened_at=now,
        subscriptions=heard,
    )  # fmt: skip
    Connection.objects.create(
        id="c2", node="n", opened_at=now, closed_at=now, close_code=4408, close_reason="Too slow", subscriptions="[]"
    )
    for kind, outcome in ((Traffic.REQUEST, "ok"), (Traffic.REFUSED, "denied"), (Traffic.ERROR, "KeyError")):
        Traffic.objects.create(
            at=now, kind=kind, node="n", connection="c1", username="ann", user_pk="77", stream="articles",
            action="update", object_pk=str(post.pk), groups=[f"blog-{blog.pk}"], outcome=outcome, milliseconds=4.2,
            message="" if outcome == "ok" else "Permission blog.change_post is needed.",
        )  # fmt: skip
    # For many rows at once, and by a program that does not belong to the site.
    bulk = Event.objects.create(
        kind=Event.BULK, stream="articles", model="blog.post", object_pk="null", actor="etl", origin="SQL psql",
        changes=json.dumps([[f"blog-{number}", "resync"] for number in range(12)]), created_at=now,
    )  # fmt: skip
    relay.run_once(database_alias())
    minute = now.replace(second=0, microsecond=0)
    for ago in range(5):
        Activity.objects.create(
            node="n", at=minute - timedelta(minutes=ago), seconds=60, sent=30, received=4, refused=ago,
            streams={"articles": [30 * ago, 4, ago]},
        )  # fmt: skip
    for ago in range(1, 60):
        Activity.objects.create(
            node="n", at=now.replace(microsecond=0) - timedelta(seconds=ago), seconds=1, sent=ago % 7, received=ago % 3,
            refused=ago % 2, p50=3.5, p99=9.0, streams={"articles": [ago % 7, ago % 3, ago % 2]},
        )  # fmt: skip
    return {
        "record": record.pk, "bad": bad.pk, "post": post.pk, "offset": offset, "event": f"e{latest.pk}",
        "watched": watched.pk, "growing": growing.pk, "bulk": f"e{bulk.pk}",
        "revision": BindingRevision.objects.latest("pk").pk,
        "old": BindingRevision.objects.filter(stream="articles").earliest("pk").pk,
    }  # fmt: skip


def find_violations(page: Any) -> list[str]:
    """Return the serious and critical findings of axe-core, which is evaluated so that the page's policy stays."""
    page.wait_for_load_state()
    if page.evaluate("typeof axe === 'undefined'"):
        page.evaluate(AXE)
    found: list[str] = page.evaluate(AXE_RUN)
    return found


def overflow(page: Any) -> int:
    """Return by how many pixels a page is wider than its window, when it has loaded."""
    page.wait_for_load_state()
    pixels: int = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    return pixels


def take_picture(page: Any, name: str, *, full_page: bool = False) -> None:
    """Save a picture, if there is a folder for it."""
    if PICTURES:
        Path(PICTURES).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(PICTURES, f"{name}.png")), full_page=full_page)


def unfold(page: Any, *titles: str) -> None:
    """Open folded sections of the form."""
    for title in titles:
        page.locator(f'details[data-section="{title}"] > summary').click()


class Complaints:
    """The errors of a page in the browser: script errors, policy violations, missing files.

    Take them before axe runs or a picture is taken: both put styles into the page, which the policy stops.
    """

    def __init__(self, page: Page) -> None:
        self.texts: list[str] = []
        page.on("pageerror", lambda error: self.texts.append(f"error: {error}"))
        page.on("console", lambda message: self._note(message.type, message.text))
        page.on("response", lambda answer: self._look(answer.status, answer.url))

    def _note(self, kind: str, text: str) -> None:
        # The response itself says more about what could not be loaded.
        if (kind == "error" and "Failed to load resource" not in text) or "Content Security Policy" in text:
            self.texts.append(f"{kind}: {text[:160]}")

    def _look(self, status: int, url: str) -> None:
        if status >= 400 and not url.endswith("/favicon.ico"):
            self.texts.append(f"{status}: {url}")

    def take(self) -> list[str]:
        """Return the errors since the last call."""
        texts, self.texts[:] = list(self.texts), []
        return texts


class Interactions:
    """A counter of a person's interactions: each click, each choice, each filled field, each key."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.count = 0

    def _one(self) -> Any:
        self.count += 1
        return self.page

    def click(self, selector: str) -> None:
        """Click the first element that matches a selector."""
        self._one().locator(selector).first.click()

    def double_click(self, selector: str) -> None:
        """Double-click, counted as one interaction."""
        self._one().locator(selector).first.dblclick()

    def fill(self, selector: str, text: str) -> None:
        """Fill a field."""
        self._one().locator(selector).first.fill(text)

    def choose(self, selector: str, value: str) -> None:
        """Choose an option of a list."""
        self._one().locator(selector).first.select_option(value)

    def press(self, key: str) -> None:
        """Press a key."""
        self._one().keyboard.press(key)


@contextmanager
def opened(browser: Any, url: str, user: User, **options: Any) -> Iterator[Any]:
    """Yield a page of a context of its own, logged in."""
    context = browser.new_context(**options)
    log_in(context, url, user)
    page = context.new_page()
    page.set_default_timeout(15_000)
    try:
        yield page
    finally:
        context.close()


Address = Callable[[JSONObject], str]
