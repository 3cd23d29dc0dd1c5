"""The admin pages in a browser: the form without and with scripts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client

from declbind.models import BindingRecord
from tests.test_admin_form import LIST, POST, save, spoil

#: Where to leave pictures for people to look at; none are taken without it.
PICTURES = os.environ.get("DECLBIND_PICTURES", "")


def take_picture(page, name):
    if PICTURES:
        Path(PICTURES).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(PICTURES, f"{name}.png")), full_page=True)


def take_pictures(page, name):
    """Picture a page in light and dark, wide and as on a telephone."""
    if not PICTURES:
        return
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for width in (1280, 400):
            page.set_viewport_size({"width": width, "height": 800})
            take_picture(page, f"{name}-{scheme}-{width}")
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1280, "height": 800})


@pytest.fixture
def site(django_server):
    """Serve the site with its static files."""
    return django_server(env={"DEBUG": "1"})


@pytest.fixture
def operator(site, page):
    """Log a superuser in and return the page."""
    user = User.objects.create_superuser("operator", password="x")
    client = Client()
    client.force_login(user)
    page.context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": site.url}])
    return page


def overflow(page):
    """Return by how many pixels the page is wider than the window."""
    return page.evaluate("document.documentElement.scrollWidth - window.innerWidth")


def test_an_operator_binds_a_model_by_the_form(operator, site, expect):
    """Choosing a model shows its fields, two lists pick some, and what opens something wants a tick."""
    page = operator
    page.goto(f"{site.url}{LIST}add/")
    page.fill("#id_stream", "posts")
    page.select_option("#id_model", "blog.Post")
    unsent = page.get_by_role("listbox", name="Not sent")
    unsent.get_by_role("option", name="title").dblclick()
    unsent.get_by_role("option", name="body").click()
    page.locator(".field-fields").get_by_role("button", name="Move to: Sent").click()
    expect(page.locator("#id_fields_names")).to_have_value("title\nbody")
    page.fill("#id_groups", "blog-")
    page.locator("#id_groups").press("End")
    page.locator("#declbind-fieldnotes button", has_text="blog").click()
    expect(page.locator("#id_groups")).to_have_value("blog-{blog_id}")
    page.select_option("#id_permissions_view", "everyone")
    page.select_option("#id_permissions_create", "holders")
    page.fill("#id_permissions_create_codename", "blog.add_post")
    expect(page.locator("#declbind-change")).to_contain_text("anyone may subscribe")
    take_pictures(page, "add")
    assert overflow(page) <= 0
    page.locator("input[name=_save]").click()
    expect(page.locator(".errorlist")).to_contain_text("Nothing is saved yet")
    take_pictures(page, "add-widening")
    page.get_by_label("It opens more than before, and I mean it").check()
    page.locator("input[name=_save]").click()
    expect(page.locator(".success")).to_contain_text("added successfully")
    expect(page.locator("#result_list")).to_contain_text("posts")
    assert BindingRecord.objects.get().definition() == {
        "stream": "posts", "model": "blog.Post", "fields": ["title", "body"], "groups": ["blog-{blog_id}"],
        "permissions": {"view": True, "create": "blog.add_post"},
    }  # fmt: skip


def test_list_form_and_json_fit_a_telephone(operator, site, expect):
    """At 400 pixels nothing but tables scrolls sideways."""
    page = operator
    record = save({**POST, "description": "Posts of a blog, live for its readers."})
    record.writable = ["title"]
    record.description = "Posts, live."
    record.save()
    save({"stream": "prices", "model": "ticker.Price", "fields": "__all__", "direction": "outbound", "enabled": False})
    bad = save({**POST, "stream": "bad"})
    spoil(bad, fields=["titel"])
    save({**POST, "stream": "other"})
    pages = {"list": "", "form": f"{record.pk}/change/", "bad": f"{bad.pk}/change/", "json": f"{record.pk}/json/",
             "file": "defined/blog/bindings/posts.json[0]/"}  # fmt: skip
    for name, address in pages.items():
        page.goto(f"{site.url}{LIST}{address}")
        take_pictures(page, name)
        page.set_viewport_size({"width": 400, "height": 800})
        assert overflow(page) <= 0, name
        page.set_viewport_size({"width": 1280, "height": 800})


def test_the_form_works_without_scripts(site, browser, expect):
    """All that scripts add is comfort."""
    user = User.objects.create_superuser("operator", password="x")
    client = Client()
    client.force_login(user)
    context = browser.new_context(java_script_enabled=False)
    context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": site.url}])
    page = context.new_page()
    page.goto(f"{site.url}{LIST}add/")
    page.fill("#id_stream", "posts")
    page.select_option("#id_model", "blog.Post")
    page.fill("#id_fields_names", "title\nbdoy")
    page.locator("input[name=_save]").click()
    expect(page.locator(".field-fields .errorlist")).to_contain_text("Did you mean 'body'?")
    expect(page.locator("#declbind-fieldnotes")).to_contain_text("published")
    page.fill("#id_fields_names", "title\nbody")
    page.locator("input[name=_save]").click()
    expect(page.locator("#result_list")).to_contain_text("posts")
    page.goto(f"{site.url}{LIST}live/")
    expect(page.get_by_role("link", name="Refresh")).to_be_visible()
    context.close()
