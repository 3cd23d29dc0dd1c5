"""A walk through every page of the console as one operator.

It requests each address, and submits each form in several ways.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin, urlsplit

from django.contrib import admin
from django.test import Client
from django.urls import NoReverseMatch, reverse

from declbind.models import BindingRecord, BindingRevision, Connection, Event, Node, Traffic

#: A definition that would give its author everything.
GREEDY: dict[str, object] = {
    "stream": "greedy",
    "model": "auth.User",
    "fields": ["username", "email", "is_superuser", "is_staff"],
    "writable": ["is_superuser", "is_staff"],
    "permissions": {"view": True, "create": True, "update": True, "delete": True},
}
#: The same as inputs of the form.
GREEDY_INPUTS = {
    "stream": "greedy",
    "model": "auth.User",
    "fields_mode": "these",
    "fields_names": "username\nemail\nis_superuser\nis_staff",
    "writable_mode": "these",
    "writable_names": "is_superuser\nis_staff",
    **{f"permissions_{action}": "everyone" for action in ("view", "create", "update", "delete")},
    "direction": "both",
    "capture": "orm",
    "serializer": "default",
    "enabled": "on",
}


@dataclass
class Form:
    """A form in a browser; ``buttons`` are the (name, value) pairs of its submit buttons."""

    action: str
    data: dict[str, Any] = field(default_factory=dict)
    buttons: list[tuple[str, str]] = field(default_factory=list)


class Forms(HTMLParser):
    """A parser of a page's POST forms."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[Form] = []
        self._form: Form | None = None
        self._select = self._area = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        name, kind = given.get("name", ""), given.get("type", "")
        if tag == "form":
            self._form = Form(given.get("action", "")) if given.get("method", "").lower() == "post" else None
            self.found += [self._form] if self._form is not None else []
        elif self._form is None or not (name or tag == "option"):
            return
        elif name == "grow":
            # A definition that names its fields is refused with it. `variants` adds it where it has a meaning.
            return
        elif tag == "button" or kind == "submit":
            self._form.buttons.append((name, given.get("value", "")))
        elif tag == "input" and kind in ("radio", "checkbox"):
            if kind == "checkbox" or "checked" in given:
                # Every checkbox is set, as an attacker would do.
                self._form.data[name] = given.get("value", "on")
        elif tag == "input" and kind != "file":
            self._form.data[name] = given.get("value", "")
        elif tag == "textarea":
            self._area = name
            self._form.data[name] = ""
        elif tag == "select":
            self._select = name
        elif tag == "option" and self._select and ("selected" in given or self._select not in self._form.data):
            self._form.data[self._select] = given.get("value", "")

    def handle_data(self, data: str) -> None:
        if self._area and self._form is not None:
            self._form.data[self._area] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        elif tag == "select":
            self._select = ""
        elif tag == "textarea":
            self._area = ""


@dataclass
class Walk:
    """The content that one operator was shown, and the addresses that responded."""

    client: Client
    texts: list[str] = field(default_factory=list)
    answered: dict[str, int] = field(default_factory=dict)
    sent: int = 0
    #: What has been submitted from the pages of one path. Queries of a path often lead to the same form.
    submitted: set[str] = field(default_factory=set)
    path: str = ""

    def everything(self) -> str:
        """Return all content that was shown, as one text."""
        return "\n".join(self.texts)

    def get(self, url: str) -> str:
        """Request a page; return its text if it is one."""
        return self._keep(url, self.client.get(url))

    def post(self, url: str, data: dict[str, Any]) -> str:
        """Submit a form."""
        self.sent += 1
        return self._keep(url, self.client.post(url, data, follow=True))

    def _keep(self, url: str, response: Any) -> str:
        self.answered[url] = max(response.status_code, 0)
        text = "" if response.streaming else response.content.decode("utf-8", "replace")
        self.texts.append(text)
        return text if response.status_code == 200 else ""

    def take(self, url: str, who: str, forms: bool) -> None:
        """Request a page and submit each of its forms, unchanged and with everything that would give more."""
        html = self.get(url)
        if self.path != (path := url.partition("?")[0]):
            self.path, self.submitted = path, set()
        for form in Forms(html).found if forms else ():
            target = urlsplit(urljoin(url, form.action or url))
            if not target.path.startswith("/admin/declbind/"):
                continue
            address = f"{target.path}?{target.query}" if target.query else target.path
            for data in variants(form, who):
                if self._is_repeated(address, data):
                    continue
                page = self.post(address, data)
                # A page that asks for confirmation gets it.
                for asked in Forms(page).found:
                    meant = {name: value for name, value in asked.buttons if name in ("confirm_widening", "_apply")}
                    if meant or "confirm_widening" in asked.data:
                        self.post(address, {**data, **asked.data, **meant})

    def _is_repeated(self, address: str, data: dict[str, object]) -> bool:
        """Return whether the same was submitted before, and note it; the token of a form is always another one."""
        same = repr((address, {key: value for key, value in data.items() if key != "csrfmiddlewaretoken"}))
        is_repeated = same in self.submitted
        self.submitted.add(same)
        return is_repeated


def variants(form: Form, who: str) -> Iterator[dict[str, object]]:
    """Yield the values to submit: the form itself with each button, and with the greedy definition in it."""
    for button in form.buttons or [("", "")]:
        pressed = {button[0]: button[1]} if button[0] else {}
        yield {**form.data, **pressed}
    if "document" in form.data:
        yield {**form.data, "document": json.dumps(GREEDY)}
        yield {**form.data, "document": json.dumps(GREEDY), "_as_form": "1"}
    if "text" in form.data:
        yield {**form.data, "text": json.dumps([GREEDY])}
        yield {**form.data, "text": json.dumps([GREEDY]), "prune": "1"}
    if "fields_mode" in form.data or "opened_with" in form.data:
        yield {**form.data, **GREEDY_INPUTS}
        yield {**form.data, **GREEDY_INPUTS, "fields_mode": "all", "grow": "on"}
        yield {**form.data, **GREEDY_INPUTS, "_look": "1", "look_q": who}
    if "_selected_action" in form.data or "action" in form.data:
        keys = [str(pk) for pk in BindingRecord.objects.values_list("pk", flat=True)]
        for action in ("enable", "disable", "export", "check_again", "delete_selected"):
            yield {**form.data, "action": action, "_selected_action": keys, "asked": "yes", "post": "yes"}
    if "who" in form.data:
        for action in ("view", "outbound", "create", "update", "delete"):
            for stream in ("animals", "wide", "greedy"):
                asked = {"who": who, "stream": stream, "action": action, "pk": "1", "values": '{"is_superuser": true}'}
                yield {**form.data, **asked, "as_if_enabled": "1", "carry_out": "1"}
                yield {**form.data, **asked, "who": ""}


#: Queries that request more than the pages' first answer.
QUERIES = (
    "", "?stream=animals&row=1&user=&at=", "?stream=animals&action=outbound&pk=1", "?stream=animals&action=view&pk=1",
    "?stream=wide&action=view&pk=1&as_if_enabled=1", "?q=sesame", "?model=auth.User",
    "?copy=blog/bindings/posts.json[0]", "?format=csv", "?whole=1&extras=1&cursor=e:0:0",
)  # fmt: skip


def addresses() -> list[str]:
    """Return every address of the console, with the keys of existing rows."""
    keys: dict[str, list[Any]] = {
        "object_id": [*BindingRecord.objects.values_list("pk", flat=True)][:3],
        "revision_id": [*BindingRevision.objects.values_list("pk", flat=True)][:4],
        "where": ["blog/bindings/posts.json[0]"],
        "key": [f"e{pk}" for pk in Event.objects.values_list("pk", flat=True)[:3]]
        + [f"t{pk}" for pk in Traffic.objects.values_list("pk", flat=True)[:2]],
    }
    others = [*Connection.objects.values_list("pk", flat=True)][:2]
    found: list[str] = []
    for model in (BindingRecord, BindingRevision, Node):
        model_admin = admin.site._registry[model]
        for pattern in model_admin.get_urls():
            names = list(pattern.pattern.converters)
            if getattr(pattern, "name", None) is None:
                continue
            options: list[Any] = keys.get(names[0], others) if names else [None]
            if names and names[0] == "object_id" and model is not BindingRecord:
                options = list(model._default_manager.values_list("pk", flat=True)[:3])
            for option in options:
                try:
                    url = reverse(f"admin:{pattern.name}", args=[] if option is None else [option])
                except NoReverseMatch:
                    continue
                found += [f"{url}{query}" for query in (QUERIES if option is None else QUERIES[:1])]
    return list(dict.fromkeys(found))


def walk(client: Client, who: str, forms: bool = True) -> Walk:
    """Request every address and submit every form; trials are made in the name of ``who``."""
    made = Walk(client)
    closed: set[str] = set()
    for url in addresses():
        path, _, query = url.partition("?")
        if query and path in closed:
            continue
        made.take(url, who, forms)
        if made.answered[url] in (302, 403):
            closed.add(path)
    if not forms:
        return made
    # The greedy definition again where no form is offered: a client needs no page to submit one.
    base = "/admin/declbind/bindingrecord/"
    made.post(f"{base}panel/", {**GREEDY_INPUTS, "look_q": ""})
    made.post(f"{base}add/", GREEDY_INPUTS)
    made.post(f"{base}add/json/", {"document": json.dumps(GREEDY)})
    made.post(f"{base}import/", {"text": json.dumps([GREEDY]), "_apply": "1", "confirm_widening": "1"})
    made.post(f"{base}try/", {"document": json.dumps(GREEDY), "stream": "greedy", "action": "view", "pk": "1"})
    for record in BindingRecord.objects.all():
        made.post(f"{base}{record.pk}/json/", {"document": json.dumps({**GREEDY, "stream": record.stream})})
        made.post(f"{base}{record.pk}/change/", {**GREEDY_INPUTS, "stream": record.stream})
    for revision in BindingRevision.objects.all():
        made.post(f"{base}rollback/{revision.pk}/", {"confirm_widening": "1"})
    return made
