"""Shared steps of the tests of the console: forms that are read and sent, records, staff users."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

from django.contrib.auth.models import Permission, User
from django.test import Client

from declbind.models import BindingRecord
from tests.json_types import JSONObject

LIST = "/admin/declbind/bindingrecord/"
ANIMALS = tuple(f"zoo.{action}_animal" for action in ("view", "add", "change", "delete"))
POST = {
    "stream": "posts",
    "model": "blog.Post",
    "fields": ["title", "body"],
    "groups": ["blog-{blog_id}"],
    "permissions": {"view": True, "create": "blog.add_post", "delete": False},
    "where": {"published": True},
}


class FormReader(HTMLParser):
    """Read what a browser would send for a form: the values of its controls."""

    def __init__(self, form_id: str = "") -> None:
        super().__init__()
        self.form_id = form_id
        self.inside = not form_id
        self.data: JSONObject = {}
        self.area: str | None = None
        self.select: str | None = None
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        if tag == "form" and self.form_id:
            self.inside = given.get("id") == self.form_id
        name = given.get("name", "")
        if not self.inside or "disabled" in given:
            return
        if tag == "input" and name and given.get("type") not in ("submit", "button"):
            if given.get("type") not in ("radio", "checkbox"):
                self.data[name] = given.get("value", "")
            elif "checked" in given:
                self.data[name] = given.get("value", "on")
        elif tag == "textarea":
            self.area, self.text = name, ""
        elif tag == "select":
            self.select = name
        elif tag == "option" and self.select and ("selected" in given or self.select not in self.data):
            self.data[self.select] = given.get("value", "")

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea" and self.area is not None:
            # Browsers drop a first line break and send the others as two characters.
            text = self.text.removeprefix("\r\n").removeprefix("\n")
            self.data[self.area] = text.replace("\r\n", "\n").replace("\n", "\r\n")
            self.area = None
        elif tag == "select":
            self.select = None
        elif tag == "form" and self.form_id:
            self.inside = False


def read_form(html: str, form_id: str = "bindingrecord_form") -> JSONObject:
    reader = FormReader(form_id)
    reader.feed(html)
    return reader.data


def tick(html: str) -> dict[str, str]:
    """Return what ticking "I mean it" adds to what is sent; nothing where a page does not ask."""
    found = re.search(r'name="confirm_widening"[^>]* value="([0-9a-f]+)"', html)
    return {"confirm_widening": found[1]} if found else {}


def post_confirmed(client: Client, url: str, data: JSONObject) -> Any:
    """Send a form, and where it asks send it again with the tick."""
    response = client.post(url, data)
    ticked = tick(response.content.decode())
    return client.post(url, data | ticked) if ticked else response


def staff(*codenames: str, name: str = "staff") -> Client:
    """Return the client of a staff user with these permissions (``app_label.codename``)."""
    user = User.objects.create_user(name, password="x", is_staff=True)
    for codename in codenames:
        app_label, _, code = codename.partition(".")
        user.user_permissions.add(*Permission.objects.filter(content_type__app_label=app_label, codename=code))
    client = Client()
    client.force_login(user)
    return client


def save(document: JSONObject) -> BindingRecord:
    record = BindingRecord().assign(document)
    record.save()
    return record


def change_url(record: BindingRecord) -> str:
    return f"{LIST}{record.pk}/change/"


def spoil(record: BindingRecord, **values: object) -> None:
    """Make a stored record invalid without validation, as a migration of its model would."""
    from django.db import models

    models.QuerySet(BindingRecord).filter(pk=record.pk).update(**values)


def errors(response: Any) -> dict[str, list[str]]:
    return {key: [str(text) for text in texts] for key, texts in response.context["adminform"].form.errors.items()}
