"""The console in a language that groups digits: scripts find the rows whose keys have five digits."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Browser

from declbind.models import BindingRecord
from example_site.blog.models import Blog, Post
from tests.browser.console import Complaints, opened
from tests.console_forms import LIST, POST
from tests.live_page import add_event, offset_of
from tests.servers import DjangoServer

KEY = 12_002


@pytest.mark.parametrize("language", ["de-DE", "fr-FR"])
def test_panel_try_and_row_page_work_with_keys_above_999(
    transactional_db: None, django_server: Callable[..., DjangoServer], browser: Browser, expect: Any, language: str
) -> None:
    """The panel follows the form, a try finds its row, and a row of the traffic opens."""
    root = User.objects.create_superuser("operator", password="x")
    record = BindingRecord(pk=KEY).assign({**POST, "fields": ["title"]})
    record.save(force_insert=True)
    blog = Blog.objects.create(pk=KEY, title="Cats", slug="cats")
    Post.objects.create(pk=KEY, blog=blog, title="Purr", body="Soft", published=True)
    event = add_event(object_pk=json.dumps(KEY))
    event.seq = None if offset_of(event) == event.pk else KEY
    event.pk = KEY
    event.save(force_insert=True)
    site = django_server(env={"DEBUG": "1", "USE_THOUSAND_SEPARATOR": "1"})
    with opened(browser, site.url, root, locale=language) as page:
        complaints = Complaints(page)
        page.goto(f"{site.url}{LIST}{KEY}/change/")
        assert page.locator("html").get_attribute("lang") == language[:2]
        panel = page.locator("#declbind-panel")
        expect(panel.locator(".declbind-frame")).to_contain_text('"title": "Purr"')
        page.fill("#id_look_q", str(KEY))
        page.locator("#id_fields_names_left [data-name=body]").dblclick()
        expect(panel.locator(".declbind-frame")).to_contain_text("Soft")
        expect(panel).to_contain_text("sendet auch body" if language == "de-DE" else "also sends body")
        assert panel.locator("[name=look_pk]").get_attribute("value") == str(KEY)

        page.goto(f"{site.url}{LIST}try/?stream=posts&action=view&pk={KEY}&who=operator")
        expect(page.locator("#content")).to_contain_text("Purr")
        assert page.locator("#id_pk").input_value() == str(KEY)

        page.goto(f"{site.url}{LIST}live/")
        row = page.locator(f'[data-rows] tr[data-key="e{KEY}"]')
        expect(row).to_have_count(1)
        row.locator("[data-open]").click()
        expect(page).to_have_url(f"{site.url}{LIST}live/row/e{KEY}/")
        expect(page.locator("#content")).to_contain_text(str(KEY))
        assert complaints.take() == []
