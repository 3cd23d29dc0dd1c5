"""The main job, end to end: a binding made in the admin reaches a browser, without a restart of any process."""

import json
import time
from collections.abc import Callable
from typing import Any

from django.contrib.auth.models import Permission
from playwright.sync_api import Browser, Page

from declbind.models import BindingRecord
from tests.browser.pages import log_in, make_user
from tests.servers import DjangoServer
from tests.writer import start_writer

# The code of a front-end developer, with its state kept where the test can see it.
SUBSCRIBE = """async () => {
  const { connect } = await import('/static/declbind/declbind.js');
  window.endings = [];
  window.watch = connect().stream('blogs').subscribe({}, { onClosed: ({ reason }) => window.endings.push(reason) });
}"""
ROWS = "() => JSON.stringify([...window.watch.rows.values()])"
CLOSED = "() => JSON.stringify(window.endings)"
PATIENCE = 15.0


def make_operator() -> None:
    operator = make_user("operator", is_staff=True)
    # Operators can only open models whose permissions they hold.
    operator.user_permissions.set(Permission.objects.filter(content_type__app_label__in=("declbind", "blog")))


def open_form(page: Page, server: DjangoServer, stream: str) -> None:
    page.goto(f"{server.url}/admin/declbind/bindingrecord/")
    page.get_by_role("link", name=stream, exact=True).click()
    page.get_by_role("navigation", name=stream).get_by_role("link", name="Edit").click()


def name_fields(page: Page, names: str) -> None:
    page.locator(".field-fields summary").click()
    page.fill("textarea[name=fields_names]", names)


def save_form(page: Page) -> None:
    """Save, and confirm if the page asks for it."""
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_selector(".messagelist .success, .errornote")
    if page.locator(".errornote").count():
        page.locator("input[name=confirm_widening]").check()
        page.get_by_role("button", name="Save", exact=True).click()
        page.wait_for_selector(".messagelist .success")


def test_a_binding_made_in_the_admin_reaches_a_browser(
    browser: Browser, page: Page, django_server: Callable[..., DjangoServer]
) -> None:
    """An operator binds a model, widens it and disables it; another browser and a third process follow live."""
    server = django_server(env={"DEBUG": "1"})
    make_operator()
    reader = browser.new_context().new_page()
    reader.goto(f"{server.url}/accounts/login/")

    def wait(expression: str, wanted: Any) -> None:
        """Wait until the reader's page holds the expected value."""
        deadline = time.monotonic() + PATIENCE
        while (found := json.loads(reader.evaluate(expression))) != wanted:
            assert time.monotonic() < deadline, found
            reader.wait_for_timeout(20)

    with start_writer(dict(server.environment())) as writer:
        # The third process has written before, so it has seen the configuration without the binding.
        pk = writer.save("blog.Blog", title="First", slug="first")

        log_in(page, server, "operator")
        page.goto(f"{server.url}/admin/declbind/bindingrecord/add/")
        page.fill("input[name=stream]", "blogs")
        page.select_option("select[name=model]", "blog.Blog")
        name_fields(page, "title")
        page.select_option("select[name=permissions_view]", "everyone")
        save_form(page)

        reader.evaluate(SUBSCRIBE)
        wait(ROWS, [{"title": "First"}])
        writer.save("blog.Blog", pk, title="Second")
        wait(ROWS, [{"title": "Second"}])

        open_form(page, server, "blogs")
        name_fields(page, "title\nslug")
        save_form(page)
        writer.save("blog.Blog", pk, title="Third")
        wait(ROWS, [{"title": "Third", "slug": "first"}])

        open_form(page, server, "blogs")
        page.uncheck("input[name=enabled]")
        save_form(page)
        wait(CLOSED, ["disabled"])
    assert not BindingRecord.objects.get().enabled
    reader.context.close()
