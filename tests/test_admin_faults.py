"""Database faults in the admin: each page says what happened and what to do."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client as Browser

from declbind.models import BindingRecord, BindingRevision
from declbind.outbound import log
from tests.command_runs import GROUPS, fresh_registry
from tests.console_forms import LIST, read_form
from tests.failing_databases import MEANWHILE, TABLE, elsewhere, execute, impatient, on_sqlite

__all__ = ["fresh_registry"]

ADD = f"{LIST}add/"


@pytest.fixture
def browser() -> Browser:
    """Return a browser whose session needs no database."""
    browser = Browser(raise_request_exception=False)
    browser.force_login(User.objects.create_superuser("operator"))
    return browser


def posted(browser: Browser, stream: str) -> dict[str, object]:
    """Return the form data of a new binding, from the form of a copy."""
    data = read_form(browser.get(ADD, {"stream": stream, "model": "auth.Group"}).content.decode())
    return {**data, "stream": stream, "model": "auth.Group", "fields_mode": "these", "fields_names": "name"}


def texts_of(page: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.content.decode()))


@pytest.mark.django_db(transaction=True)
def test_a_form_that_cannot_be_stored_shows_the_reason_and_can_be_sent_again(browser: Browser) -> None:
    """The page keeps the submitted values, which can be stored once the lock is released."""
    log.load_head("default")
    form = posted(browser, "fresh")
    lock = {
        "sqlite": "UPDATE auth_group SET name = name",
        "postgresql": f"LOCK TABLE {TABLE} IN EXCLUSIVE MODE",
        "mysql": "SELECT * FROM declbind_configuration FOR UPDATE",
    }[connection.vendor]
    with elsewhere(lock), impatient():
        page = browser.post(ADD, form)
    assert page.status_code == 503
    text = texts_of(page)
    assert "Another connection holds a lock in database" in text
    assert "Nothing was stored." in text
    assert MEANWHILE not in text
    sent = re.findall(r'<textarea name="([^"]+)" hidden>\n([^<]*)</textarea>', page.content.decode())
    assert {name: value.replace("&quot;", '"') for name, value in sent}.items() >= {"stream": "fresh"}.items()
    again: dict[str, list[str]] = {}
    for name, value in sent:
        again.setdefault(name, []).append(value.replace("&quot;", '"'))
    assert browser.post(ADD, again).status_code == 302
    assert BindingRecord.objects.get().stream == "fresh"


@pytest.mark.django_db(transaction=True)
@on_sqlite
@pytest.mark.parametrize("page_name", ["import", "rollback", "json", "delete", "take over"])
def test_every_page_that_stores_shows_why_it_cannot(browser: Browser, page_name: str) -> None:
    """This holds for an import, a rollback, the JSON page, a deletion and a copy of a binding from a file."""
    record = BindingRecord.objects.create(**GROUPS)
    revision = BindingRevision.objects.get()
    record.description = "changed"
    record.save()
    root = "/admin/declbind/bindingrecord"
    if page_name == "import":
        text = json.dumps([{**GROUPS, "stream": "imported", "permissions": {"view": False}}])
        review = browser.post(f"{root}/import/", {"text": text})
        hidden = dict(re.findall(r'name="(plan|version|generation|source)" value="([^"]*)"', review.content.decode()))
        address, data = f"{root}/import/", {**hidden, "text": text, "_apply": "yes", "confirm_widening": "yes"}
    elif page_name == "rollback":
        address = f"{root}/rollback/{revision.pk}/"
        data = _hidden(browser.get(address))
    elif page_name == "json":
        address = f"{root}/{record.pk}/json/"
        data = {**_hidden(browser.get(address)), "document": json.dumps({**record.definition(), "description": "x"})}
    elif page_name == "delete":
        address, data = f"{root}/{record.pk}/delete/", {"post": "yes"}
    else:
        address, data = ADD, posted(browser, "copy")
    with elsewhere("UPDATE auth_group SET name = name"), impatient():
        page = browser.post(address, data)
    assert page.status_code == 503, texts_of(page)
    assert "Another connection holds a lock in database" in texts_of(page)
    assert browser.post(address, data).status_code == 302


def _hidden(page: Any) -> dict[str, str]:
    found = re.findall(r'<(?:input type="hidden"|button)[^>]*name="([^"]+)"[^>]*value="([^"]*)"', page.content.decode())
    return {name: value for name, value in found if name != "csrfmiddlewaretoken"}


@pytest.mark.django_db(transaction=True)
def test_a_list_without_its_table_asks_for_migrate(browser: Browser) -> None:
    """Pages that only read also name the missing table."""
    execute(f"ALTER TABLE {TABLE} RENAME TO moved")
    try:
        page = browser.get("/admin/declbind/bindingrecord/")
    finally:
        execute(f"ALTER TABLE moved RENAME TO {TABLE}")
    assert page.status_code == 500
    assert "Run `manage.py migrate --database default`." in texts_of(page)
