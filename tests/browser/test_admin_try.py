"""The page for trying a binding, in a browser: only the necessary inputs, text to copy, narrow screens."""

from __future__ import annotations

import json

from django.contrib.auth.models import User
from django.utils import timezone

from declbind.models import Connection, Node
from example_site.blog.models import Blog, Post
from tests.browser.console import overflow
from tests.browser.test_admin import operator, site, take_pictures
from tests.console_forms import LIST, save

__all__ = ["operator", "site"]
RECORD = {
    "stream": "tried",
    "model": "blog.Post",
    "fields": ["title", "body", "blog", "published"],
    "groups": ["blog-{blog_id}"],
    "permissions": {"view": True, "create": "blog.add_post", "update": "blog.change_post", "delete": False},
    "where": {"published": True},
}


def test_a_try_from_the_question_to_the_ticket(operator, site, expect):
    """The inputs follow the action, the answer names each step, and its text can be copied."""
    save(RECORD)
    User.objects.create_user("ann", password="x")
    blog = Blog.objects.create(title="Daily", slug="daily")
    post = Post.objects.create(blog=blog, title="Hello", body="A first word.", published=True)
    now = timezone.now()
    Node.objects.create(id="n", host="web-1", pid=1, started_at=now, seen_at=now)
    heard = json.dumps([["tried", f"blog-{blog.pk}", None, 0, ""]], separators=(",", ":"))
    Connection.objects.create(id="c1", node="n", username="ann", user_pk="2", opened_at=now, subscriptions=heard)
    page = operator
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(f"{site.url}{LIST}")
    page.get_by_role("navigation", name="Bindings console").get_by_role("link", name="Try it").click()
    expect(page.get_by_label("Values")).to_be_hidden()
    page.get_by_label("Does what").select_option("update")
    expect(page.get_by_label("Values")).to_be_visible()
    expect(page.get_by_label("Parameters of the subscription")).to_be_hidden()
    page.get_by_label("Who").fill("ann")
    page.get_by_label("Binding", exact=True).select_option("tried")
    page.get_by_label("Row", exact=True).fill(str(post.pk))
    page.get_by_label("Values").fill("title = Hello again")
    page.get_by_role("button", name="Try").click()
    expect(page.locator(".declbind-step-refused")).to_contain_text(
        "It requires blog.change_post, which ann does not have."
    )
    take_pictures(page, "try-refused")
    page.get_by_label("Who").fill("operator")
    page.get_by_label("carry out and roll back").check()
    page.get_by_role("button", name="Try").click()
    expect(page.locator(".declbind-steps")).to_contain_text("Carried out and rolled back.")
    take_pictures(page, "try-written")
    page.set_viewport_size({"width": 400, "height": 800})
    assert overflow(page) <= 0
    page.set_viewport_size({"width": 1280, "height": 800})
    page.get_by_role("link", name="Copy as text").click()
    expect(page.get_by_role("link", name="Copied")).to_be_visible()
    assert "Try it: operator: changes a row" in page.evaluate("navigator.clipboard.readText()")
    page.get_by_label("Does what").select_option("view")
    page.get_by_role("button", name="Try").click()
    page.wait_for_url(f"{site.url}{LIST}try/?*action=view*")
    expect(page.locator(".declbind-try-result")).to_contain_text("Users who see this row")
    take_pictures(page, "try-view")
    page.get_by_label("Binding", exact=True).select_option("")
    page.get_by_role("button", name="Try").click()
    expect(page.locator(".declbind-try-result")).to_contain_text("By binding")
    take_pictures(page, "try-all")
    page.set_viewport_size({"width": 400, "height": 800})
    assert overflow(page) <= 0
