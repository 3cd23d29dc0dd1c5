"""The writes that a binding captures, from the form to the live page, in the steps of an operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from playwright.sync_api import Browser

from declbind.models import BindingRecord
from declbind.outbound.triggers import upkeep
from declbind.registry import refresh
from example_site.blog.models import Blog, Post
from tests.browser.console import Complaints, find_violations, opened, overflow, take_picture, unfold
from tests.console_forms import LIST
from tests.servers import DjangoServer

WAYS = [("light", 1280), ("dark", 1280), ("light", 400)]


@pytest.fixture
def site(django_server: Callable[..., DjangoServer]) -> Any:
    return django_server(env={"DEBUG": "1"})


@pytest.fixture
def root(transactional_db: None) -> User:
    return User.objects.create_superuser("operator", password="x")


def picture(page: Any, name: str, part: str = "") -> None:
    """Take pictures in light, dark and narrow, of a part of the page if one is named; nothing may overflow."""
    for scheme, width in WAYS:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        assert overflow(page) <= 0, (name, scheme, width)
        if part:
            page.locator(part).evaluate("part => part.scrollIntoView()")
        take_picture(page, f"{name}-{scheme}-{width}")
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1280, "height": 900})


@pytest.mark.needs_triggers
def test_a_binding_is_set_to_capture_raw_sql(site: Any, root: User, browser: Browser) -> None:
    """An operator chooses triggers in the form, which describes the effect. The page marks missing triggers."""
    blog = Blog.objects.create(title="News", slug="news")
    posts = Post.objects.bulk_create(Post(blog=blog, title=f"Post {number}", body="x") for number in range(3))
    record = BindingRecord.objects.create(stream="posts", model="blog.Post", fields=["title"])
    with opened(browser, site.url, root) as page:
        complaints = Complaints(page)
        page.goto(f"{site.url}{LIST}{record.pk}/change/")
        unfold(page, "When rows are sent")
        page.get_by_label("Also by raw SQL and other programs").check()
        page.locator("#declbind-relationnotes").get_by_role("button", name="author", exact=True).click()
        page.locator("#declbind-relationnotes").get_by_role("button", name="author__groups", exact=True).click()
        assert page.locator("#id_also").input_value() == "author\nauthor__groups"
        words = page.locator("#declbind-change")
        words.get_by_text("is sent again when author or author__groups changes").wait_for()
        words.get_by_text("also captures raw SQL and other programs, once its triggers are installed").wait_for()
        # A second click removes a relation, and relations that lead on from it stay while they are named.
        page.locator("#declbind-relationnotes").get_by_role("button", name="author__groups", exact=True).click()
        words.get_by_text("is sent again when author changes").wait_for()
        assert complaints.take() == []
        assert find_violations(page) == []
        picture(page, "capture-form", ".field-capture")
        page.locator("#id_confirm_widening").check()
        page.get_by_role("button", name="Save", exact=True).first.click()
        page.get_by_text("misses writes").first.wait_for()
        picture(page, "capture-list")
        page.goto(f"{site.url}{LIST}{record.pk}/overview/")
        page.get_by_text("Some writes that should be captured are not.").wait_for()
        picture(page, "capture-fault")
        picture(page, "capture-sight", "#declbind-sight")
        record.refresh_from_db()
        assert (record.capture, record.also) == ("triggers", ["author"])
        refresh()
        upkeep.install("default")
        try:
            page.goto(f"{site.url}{LIST}live/")
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("UPDATE blog_post SET title = 'By SQL' WHERE id = %s", [posts[0].pk])
            Post.objects.bulk_create(Post(blog=blog, title=f"Many {number}", body="x") for number in range(1_200))
            page.get_by_text("1 group asked to take a snapshot").first.wait_for()
            page.locator("tr", has_text="SQL").locator("b", has_text="update").first.wait_for()
            picture(page, "capture-live", "[data-rows]")
            page.locator("tr", has_text="1 group asked").first.get_by_title("All about this row").click()
            page.get_by_text("more than 1\u00a0000 rows").first.wait_for()
            picture(page, "capture-live-row")
            page.goto(f"{site.url}{LIST}why/?stream=posts&row={Post.objects.latest('pk').pk}")
            page.get_by_role("heading", name="The row was one of many").wait_for()
            picture(page, "capture-why")
        finally:
            upkeep.remove("default")
