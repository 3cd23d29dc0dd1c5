"""Every screen of the console: accessible, under a strict policy, narrow, right to left, by keyboard."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from playwright.sync_api import Browser, Expect, Page

from admin_ui.screens import screen_urls
from declbind.models import BindingRecord, BindingRevision
from tests.browser.console import (
    Complaints,
    Interactions,
    fill_console,
    find_violations,
    opened,
    overflow,
    take_picture,
)
from tests.console_forms import LIST
from tests.servers import DjangoServer

HOME = "/admin/declbind/"
#: Every screen by the name of its address, with the rest of the address after the list's (or a whole one).
SCREENS: dict[str, str] = {
    "changelist": "",
    "add": "add/?model=blog.Post",
    "overview": "{record}/overview/",
    "change": "{record}/change/",
    "invalid": "{bad}/change/",
    "watched": "{watched}/change/",
    "delete": "{record}/delete/",
    "history": "{record}/history/",
    "json": "{record}/json/",
    "add_json": "add/json/",
    "accept": "{growing}/accept/",
    "elsewhere": "defined/blog/bindings/posts.json[0]/",
    "live": "live/",
    "live_row": "live/row/{event}/",
    "live_bulk": "live/row/{bulk}/",
    "why": "why/?stream=articles&row={post}&user=nobody",
    "try": "try/?stream=articles&action=view&pk={post}",
    "connections": "connections/",
    "connection": "connections/c1/",
    "processes": "processes/",
    "doctor": "doctor/",
    "import": "import/",
    "revisions": f"{HOME}bindingrevision/",
    "rollback": "rollback/{old}/",
    "revision": f"{HOME}bindingrevision/{{revision}}/change/",
}
#: Addresses that are no screens: requests of scripts, downloads, and addresses that only accept a POST.
NO_SCREENS = {"live_rows", "live_stream", "live_stop", "live_export", "live_saved", "export", "panel", "json_problems"}
#: axe's findings in Django's own markup: the links of its delete confirmation.
DJANGOS_OWN = {"link-in-text-block: li > a"}


def screen_names() -> set[str]:
    model_admin = admin.site.get_model_admin(BindingRecord)
    return {str(pattern.name).removeprefix("declbind_bindingrecord_") for pattern in screen_urls(model_admin)}


def test_every_address_of_the_console_is_in_the_table() -> None:
    """Every screen is in the table."""
    assert screen_names() <= {*SCREENS, *NO_SCREENS}


@pytest.fixture
def site(django_server: Callable[..., DjangoServer]) -> DjangoServer:
    return django_server(env={"DEBUG": "1"})


@pytest.fixture
def root(transactional_db: None) -> User:
    return User.objects.create_superuser("operator", password="x")


def address(site: DjangoServer, path: str, values: Mapping[str, object]) -> str:
    path = path.format(**values)
    return f"{site.url}{path if path.startswith('/') else LIST + path}"


def test_every_screen_is_accessible_and_keeps_to_the_policy(site: DjangoServer, root: User, browser: Browser) -> None:
    """In light and dark, wide and narrow: no serious finding, no policy violation, no sideways scrolling."""
    values = fill_console()
    faults = []
    with opened(browser, site.url, root) as page:
        complaints = Complaints(page)
        for name, path in SCREENS.items():
            page.set_viewport_size({"width": 1280, "height": 900})
            complaints.take()
            page.goto(address(site, path, values))
            page.emulate_media(color_scheme="dark")
            faults += [f"{name}: {text}" for text in complaints.take()]
            for scheme in ("dark", "light"):
                page.set_viewport_size({"width": 1280, "height": 900})
                page.emulate_media(color_scheme=scheme)
                faults += [f"{name}, {scheme}: {text}" for text in find_violations(page) if text not in DJANGOS_OWN]
                take_picture(page, f"{name}-{scheme}-1280")
                page.set_viewport_size({"width": 400, "height": 900})
                if overflow(page) > 0:
                    faults.append(f"{name}, {scheme}: {overflow(page)} pixels too wide at 400")
                take_picture(page, f"{name}-{scheme}-400")
    assert not faults, "\n".join(faults)


def test_every_screen_can_be_read_from_right_to_left(site: DjangoServer, root: User, browser: Browser) -> None:
    """The pages follow the direction of the admin's language, and nothing overflows."""
    values = fill_console()
    faults = []
    with opened(browser, site.url, root, locale="ar") as page:
        for name, path in SCREENS.items():
            page.set_viewport_size({"width": 1280, "height": 900})
            page.goto(address(site, path, values))
            assert page.evaluate("document.documentElement.dir") == "rtl"
            take_picture(page, f"{name}-rtl-1280")
            if overflow(page) > 0:
                faults.append(f"{name}: {overflow(page)} pixels too wide")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("language", ["de", "zh-CN"])
def test_every_screen_fits_in_each_language(site: DjangoServer, root: User, browser: Browser, language: str) -> None:
    """Longer words than in English make no screen too wide, and the texts of scripts break no policy."""
    values = fill_console()
    faults = []
    with opened(browser, site.url, root, locale=language) as page:
        complaints = Complaints(page)
        for name, path in SCREENS.items():
            for width in (1280, 400):
                page.set_viewport_size({"width": width, "height": 900})
                page.goto(address(site, path, values))
                assert page.evaluate("document.documentElement.lang").startswith(language[:2])
                take_picture(page, f"{name}-{language}-{width}")
                if overflow(page) > 0:
                    faults.append(f"{name}: {overflow(page)} pixels too wide at {width}")
        faults += complaints.take()
    assert not faults, "\n".join(faults)


def test_the_policy_stops_an_inline_script(site: DjangoServer, root: User, browser: Browser) -> None:
    """Negative control: the checks of the screens detect violations."""
    with opened(browser, site.url, root) as page:
        complaints = Complaints(page)
        page.goto(f"{site.url}{LIST}")
        page.evaluate("document.body.insertAdjacentHTML('beforeend', '<p style=\"color: red\">x</p>')")
        page.evaluate("document.querySelector('#content').insertAdjacentHTML('beforeend', '<input type=text>')")
        refused: list[str] = []
        for _ in range(100):
            refused += complaints.take()
            if any("style" in text for text in refused):
                break
            page.wait_for_timeout(100)  # the browser reports it asynchronously
        assert any("style" in text for text in refused)
        assert any(text.startswith("label:") for text in find_violations(page))


def test_the_screens_work_without_scripts(site: DjangoServer, root: User, browser: Browser) -> None:
    """Filter, open, view, and go from page to page: all with links and forms."""
    values = fill_console()
    with opened(browser, site.url, root, java_script_enabled=False) as page:
        page.goto(f"{site.url}{LIST}")
        page.locator(".declbind-filters > summary").click()
        page.get_by_role("link", name="disabled").click()
        assert page.locator("#result_list tbody tr").count() == 1
        page.goto(f"{site.url}{LIST}")
        page.get_by_role("navigation", name="Bindings console").get_by_role("link", name="Live traffic").click()
        assert page.locator("tr.declbind-row-refused").count() == 1
        page.locator("tr.declbind-row-refused summary").first.click()
        page.locator("tr.declbind-row-refused a.declbind-why-link").first.click()
        assert page.locator(".declbind-answer").count() >= 1
        page.goto(address(site, SCREENS["try"], values))
        assert page.get_by_text("Anyone may.").count() >= 1
        page.goto(f"{site.url}{LIST}connections/")
        page.get_by_role("link", name="ann").click()
        page.get_by_role("button", name="Disconnect").click()
        assert page.locator(".success").count() == 1
        page.goto(f"{site.url}{LIST}import/")
        assert page.locator("form[method=post]").count() >= 1


def test_why_is_found_in_four_steps(site: DjangoServer, root: User, browser: Browser, expect: Expect) -> None:
    """From the list: the binding's "Why?", the row, the user, Enter."""
    values = fill_console()
    User.objects.create_user("nobody")
    with opened(browser, site.url, root) as page:
        page.goto(f"{site.url}{LIST}")
        person = Interactions(page)
        person.click("#result_list tr:has-text('articles') a:has-text('Why?')")
        person.fill("[name=row]", str(values["post"]))
        person.fill("[name=user]", "nobody")
        person.press("Enter")
        expect(page.locator(".declbind-answer h2").first).to_contain_text("The user was not connected then.")
        assert person.count <= 4


@pytest.mark.parametrize(
    ("kind", "title"), [("out", ""), ("refused", "A client's request to write the row was refused")]
)
def test_why_is_found_in_two_steps_from_the_index(
    site: DjangoServer, root: User, browser: Browser, expect: Expect, kind: str, title: str
) -> None:
    """Open the live traffic, and follow the link of a row. Everything is filled in."""
    fill_console()
    with opened(browser, site.url, root) as page:
        page.goto(f"{site.url}/admin/")
        person = Interactions(page)
        person.click("#content-main a:has-text('Live traffic')")
        person.click(f"tr.declbind-row-{kind}:has-text('articles') a.declbind-why-link")
        expect(page.locator(".declbind-answer").first).to_be_visible()
        expect(page.locator("[name=stream]")).to_have_value("articles")
        expect(page.locator("[name=row]")).not_to_have_value("")
        expect(page.locator(".declbind-answer h2").first).to_contain_text(title)
        assert person.count <= 2


def test_a_model_is_bound_in_five_steps(site: DjangoServer, root: User, browser: Browser, expect: Expect) -> None:
    """From the list: add, model, two fields and save. The stream's name is proposed."""
    with opened(browser, site.url, root) as page:
        page.goto(f"{site.url}{LIST}")
        person = Interactions(page)
        person.click(".object-tools a.addlink")
        person.choose("#id_model", "blog.Post")
        person.double_click("#id_fields_names_left [data-name=title]")
        person.double_click("#id_fields_names_left [data-name=body]")
        person.click("input[name=_save]")
        expect(page.locator(".success")).to_contain_text("posts")
        assert person.count <= 5
    assert BindingRecord.objects.get().definition() == {
        "stream": "posts",
        "model": "blog.Post",
        "fields": ["title", "body"],
    }


def test_a_change_is_rolled_back_in_two_steps(site: DjangoServer, root: User, browser: Browser, expect: Expect) -> None:
    """From the list: the time of the last change, and the button beside the version."""
    values = fill_console()
    with opened(browser, site.url, root) as page:
        page.goto(f"{site.url}{LIST}")
        person = Interactions(page)
        person.click("#result_list tr:has-text('articles') .field-changed a")
        person.click(f"form[action*='rollback/{values['old']}/'] button")
        expect(page.locator(".success")).to_be_visible()
        assert person.count <= 2
    assert BindingRecord.objects.get(stream="articles").description == "Posts, live."


def test_a_widening_is_rolled_back_in_two_steps_too(
    site: DjangoServer, root: User, browser: Browser, expect: Expect
) -> None:
    """The button on the binding's page says what it opens, in a colour of its own."""
    record = BindingRecord.objects.create(stream="articles", model="blog.Post", fields=["title", "body"])
    old = BindingRevision.objects.get()
    record.fields = ["title"]
    record.save()
    with opened(browser, site.url, root) as page:
        page.goto(f"{site.url}{LIST}")
        person = Interactions(page)
        person.click("#result_list tr:has-text('articles') .field-changed a")
        button = page.locator(f"form[action*='rollback/{old.pk}/'] button")
        expect(button).to_contain_text("gives more access than before")
        take_picture(page, "roll-back-opening")
        person.click(f"form[action*='rollback/{old.pk}/'] button")
        expect(page.locator(".success")).to_be_visible()
        assert person.count <= 2
    assert BindingRecord.objects.get(stream="articles").fields == ["title", "body"]


def test_a_model_is_bound_by_the_keyboard_alone(
    site: DjangoServer, root: User, browser: Browser, expect: Expect
) -> None:
    """Tab, typing and Enter suffice, and the focus is always visible."""
    with opened(browser, site.url, root) as page:
        page.goto(f"{site.url}{LIST}")
        tab_to(page, ".object-tools a.addlink")
        page.keyboard.press("Enter")
        page.wait_for_url("**/add/")
        tab_to(page, "#id_stream")
        page.keyboard.type("articles")
        tab_to(page, "#id_model")
        page.keyboard.type("blog.Post")
        tab_to(page, ".field-fields .declbind-list input")
        page.keyboard.type("title")
        page.keyboard.press("Enter")
        page.keyboard.press("Escape")
        page.keyboard.type("body")
        page.keyboard.press("Enter")
        tab_to(page, "input[name=_save]")
        page.keyboard.press("Enter")
        expect(page.locator(".success")).to_contain_text("articles")
    assert BindingRecord.objects.get().fields == ["title", "body"]


def tab_to(page: Page, selector: str, limit: int = 120) -> None:
    """Press Tab until the focus is on an element; the focus must be visible on each element on the way."""
    for _ in range(limit):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            continue
        shown = page.evaluate(
            """() => {
              const element = document.activeElement, focused = getComputedStyle(element);
              const with_focus = [focused.outlineStyle, focused.boxShadow, focused.borderColor, focused.backgroundColor,
                focused.textDecorationLine, focused.color].join();
              const outline = focused.outlineStyle !== 'none' && parseFloat(focused.outlineWidth) > 0;
              element.blur();
              const blurred = getComputedStyle(element);
              const without = [blurred.outlineStyle, blurred.boxShadow, blurred.borderColor, blurred.backgroundColor,
                blurred.textDecorationLine, blurred.color].join();
              element.focus({focusVisible: true});
              return outline || with_focus !== without;
            }"""
        )
        assert shown, page.evaluate("document.activeElement.outerHTML.slice(0, 200)")
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"Tab does not lead to {selector}")
