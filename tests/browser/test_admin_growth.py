"""A field that a model gets later, in a browser: the list and the page name it, and a button accepts it."""

from __future__ import annotations

from declbind.models import BindingRecord
from tests.browser.console import find_violations, overflow
from tests.browser.test_admin import operator, site, take_pictures
from tests.console_forms import LIST
from tests.test_growing_records import grown

__all__ = ["operator", "site"]


def test_a_new_field_is_seen_and_accepted(operator, site, expect):
    """From the list to the button that says what it sends; the pages fit a telephone and are accessible."""
    page = operator
    grown()
    page.goto(f"{site.url}{LIST}")
    expect(page.locator("#result_list")).to_contain_text("new: author")
    assert find_violations(page) == []
    page.get_by_role("link", name="posts", exact=True).click()
    expect(page.locator("#declbind-growth")).to_contain_text("not sent yet: author")
    page.get_by_role("link", name="Review what sending them would show").click()
    expect(page.locator("#content-main")).to_contain_text("also sends author")
    assert find_violations(page) == []
    take_pictures(page, "accept")
    page.set_viewport_size({"width": 400, "height": 800})
    assert overflow(page) <= 0
    page.get_by_role("button", name="Send author").click()
    expect(page.locator(".success")).to_contain_text("The binding posts also sends author")
    expect(page.locator("#declbind-growth")).to_have_count(0)
    assert BindingRecord.objects.get().held() == []
