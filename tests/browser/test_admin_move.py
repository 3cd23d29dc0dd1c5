"""Import, export, processes and doctor in a browser: a file is chosen, reviewed and applied; all fit a phone."""

from __future__ import annotations

import json
from datetime import timedelta

from django.utils import timezone

from declbind.models import BindingRecord, Configuration, Node
from tests.browser.console import overflow
from tests.browser.test_admin import operator, site, take_pictures
from tests.console_forms import LIST, POST, save, spoil

__all__ = ["operator", "site"]

USERS = {"stream": "users", "model": "auth.User", "fields": ["username"]}


def fits(page, name):
    """Take a picture of the page; return whether only tables scroll sideways at 400 pixels."""
    take_pictures(page, name)
    page.set_viewport_size({"width": 400, "height": 800})
    found = overflow(page) <= 0
    page.set_viewport_size({"width": 1280, "height": 800})
    return found


def test_a_file_is_reviewed_and_applied(operator, site, expect, tmp_path):
    """From the list: choose, review, confirm, apply; an exported file then has nothing to change."""
    page = operator
    record = save({**POST, "description": "Posts of a blog."})
    save({**USERS, "stream": "old-users"})
    changed = {**record.definition(), "fields": ["title", "body", "published"], "permissions": {"view": True}}
    (tmp_path / "live.json").write_text(json.dumps([changed, USERS]))
    page.goto(f"{site.url}{LIST}")
    page.get_by_role("link", name="Import", exact=True).click()
    page.wait_for_url("**/import/")
    assert fits(page, "import")
    page.set_input_files("#id_file", tmp_path / "live.json")
    page.check("#id_prune")
    page.fill("#id_note", "release 3")
    page.get_by_role("button", name="Review").click()
    expect(page.locator(".declbind-counts")).to_contain_text("1 to add, 1 to change, 1 to remove, 0 unchanged")
    assert fits(page, "import-review")
    page.get_by_role("button", name="Apply exactly this").click()
    expect(page.get_by_role("alert")).to_contain_text("Confirm that it gives more access than before")
    page.check("#id_confirm_widening")
    page.get_by_role("button", name="Apply exactly this").click()
    expect(page.locator(".success")).to_contain_text("The configuration is at version 5.")
    assert set(BindingRecord.objects.values_list("stream", flat=True)) == {"posts", "users"}
    with page.expect_download() as download:
        page.get_by_role("link", name="Export all").click()
    page.goto(f"{site.url}{LIST}import/")
    page.fill("#id_text", download.value.path().read_text())
    page.get_by_role("button", name="Review").click()
    expect(page.locator("#content-main")).to_contain_text("Nothing to change")


def test_problems_processes_and_doctor_fit_a_phone(operator, site, expect):
    """At 400 pixels only tables scroll sideways."""
    page = operator
    bad = save(POST)
    spoil(bad, fields=["titel"])
    configuration = Configuration.objects.get()
    now = timezone.now()
    for name, age, version, error in (
        ("web-1.example.org", 1, 1, ""),
        ("web-2.example.org", 2, 0, "ConnectionError: the database went away in the middle of reading the log"),
        ("web-3.example.org", 3600, 1, ""),
    ):
        Node.objects.create(
            id=name, host=name, pid=4711, generation=configuration.generation, version=version, digest="0123456789ab",
            connections=1200, subscriptions=3400, last_error=error, started_at=now - timedelta(hours=5),
            seen_at=now - timedelta(seconds=age),
        )  # fmt: skip
    page.goto(f"{site.url}{LIST}processes/")
    assert fits(page, "processes")
    page.goto(f"{site.url}{LIST}doctor/")
    assert fits(page, "doctor")
    expect(page.get_by_role("button", name="Run again")).to_be_visible()
    page.goto(f"{site.url}{LIST}import/")
    page.fill("#id_text", json.dumps([{**POST, "fields": ["titel"]}, {**USERS, "stream": "blog-desk"}, USERS]))
    page.get_by_role("button", name="Review").click()
    expect(page.locator(".declbind-problems li")).to_have_count(2)
    assert fits(page, "import-problems")
