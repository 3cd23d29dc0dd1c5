"""The console under another admin: a custom ``AdminSite`` at another address, and django-unfold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Browser

from tests.browser.console import Complaints, fill_console, opened, take_picture
from tests.browser.test_console_pages import SCREENS
from tests.servers import DjangoServer

#: The settings of the site's process, the address of its admin, and that admin's own elements to ignore.
SITES = {"ops": ("tests.sites.ops", "/ops/declbind/"), "unfold": ("tests.sites.unfold", "/admin/declbind/")}
LINKS = """(root) => Array.from(document.querySelectorAll('a[href]'), (link) => new URL(link.href).pathname)
  .filter((path) => path.includes('/declbind/'))"""


@pytest.mark.parametrize("name", SITES)
def test_every_screen_works_under_another_admin(
    name: str, django_server: Callable[..., DjangoServer], browser: Browser
) -> None:
    """It responds, shows its title, raises no error, and its links stay inside that admin."""
    settings, home = SITES[name]
    root = User.objects.create_superuser("operator", password="x")
    values = fill_console()
    site = django_server(env={"DEBUG": "1", "DJANGO_SETTINGS_MODULE": settings})
    faults = []
    with opened(browser, site.url, root) as page:
        complaints = Complaints(page)
        for screen, path in SCREENS.items():
            path = path.format(**values)
            path = path.replace("/admin/declbind/", home) if path.startswith("/") else f"{home}bindingrecord/{path}"
            answer = page.goto(f"{site.url}{path}")
            if answer.status != 200:
                faults.append(f"{screen}: {answer.status}")
                continue
            faults += [f"{screen}: {text}" for text in complaints.take() if text.startswith("error:")]
            if not page.locator("h1, h2").first.inner_text().strip():
                faults.append(f"{screen}: no heading")
            outside = {link for link in page.evaluate(LINKS) if not link.startswith(home)}
            faults += [f"{screen}: leads to {link}" for link in sorted(outside)]
            take_picture(page, f"{name}-{screen}")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("name", SITES)
def test_a_model_is_bound_under_another_admin(
    name: str, django_server: Callable[..., DjangoServer], browser: Browser, expect: Any
) -> None:
    """The form is sent and stored there."""
    settings, home = SITES[name]
    root = User.objects.create_superuser("operator", password="x")
    site = django_server(env={"DEBUG": "1", "DJANGO_SETTINGS_MODULE": settings})
    with opened(browser, site.url, root) as page:
        page.goto(f"{site.url}{home}bindingrecord/add/?model=blog.Post")
        page.fill("#id_stream", "articles")
        page.locator("#id_fields_names_left [data-name=title]").dblclick()
        page.locator("[name=_save]:visible").first.click()
        expect(page).to_have_url(f"{site.url}{home}bindingrecord/")
        expect(page.locator("body")).to_contain_text("articles")
