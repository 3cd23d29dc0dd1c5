"""The ways in which the admin puts a definition in force, each as one function of a client and a definition."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from django.contrib.auth.models import Permission, User
from django.test import Client

from admin_ui.common import documents
from declbind.models import BindingRecord, BindingRevision
from declbind.registry import get_registry
from tests.console_forms import FormReader, read_form, tick

LIST = "/admin/declbind/bindingrecord/"
STREAM = "target"
EDIT = tuple(f"declbind.{action}_bindingrecord" for action in ("view", "add", "change", "delete"))
#: What stands in the place of the definition before it is put in force: it opens nothing.
CLOSED: dict[str, Any] = {
    "stream": STREAM,
    "model": "blog.Post",
    "fields": [],
    "permissions": {"view": False, "create": False, "update": False, "delete": False},
}


def operator(*codenames: str, name: str = "operator") -> tuple[Client, User]:
    """Return a staff user with these permissions and no others, and a browser with that user's login."""
    user, _ = User.objects.get_or_create(username=name, defaults={"is_staff": True})
    held = [
        Permission.objects.get(content_type__app_label=app_label, codename=codename)
        for app_label, _, codename in (text.partition(".") for text in codenames)
    ]
    user.user_permissions.set(held)
    client = Client()
    client.force_login(user)
    return client, user


def is_in_force(document: dict[str, object]) -> bool:
    """Return whether clients are served by this definition."""
    binding = get_registry().by_stream.get(STREAM)
    wanted = documents.normalise(document)
    return binding is not None and documents.normalise(binding.spec().to_dict()) == wanted


def _save(document: dict[str, object]) -> BindingRecord:
    record = BindingRecord.objects.filter(stream=STREAM).first() or BindingRecord()
    record.assign(document).save()
    return record


def _send(client: Client, url: str, data: dict[str, object]) -> None:
    """Send a form, and send it again with the confirmation if the page asks for one."""
    page = client.post(url, data)
    if page.status_code == 200 and (ticked := tick(page.content.decode())):
        client.post(url, data | ticked)


def _form(client: Client, url: str, document: dict[str, Any]) -> None:
    """Let the JSON page fill in the form, as for an operator who switches between them."""
    page = client.get(f"{url}json/")
    opened_with = read_form(page.content.decode(), "").get("opened_with", "") if page.status_code == 200 else ""
    text = json.dumps(document)
    filled = client.post(f"{url}json/", {"document": text, "opened_with": opened_with, "_as_form": "1"})
    address = url if url.endswith("add/") else f"{url}change/"
    if filled.status_code == 200:
        data = read_form(filled.content.decode())
        # The input is shown and cannot be changed by those without the right; a client may send it all the same.
        data["sensitive"] = "\n".join(document.get("sensitive", ()))
        _send(client, address, data)


def add_form(client: Client, document: dict[str, object]) -> None:
    _form(client, f"{LIST}add/", document)


def change_form(client: Client, document: dict[str, object]) -> None:
    _form(client, f"{LIST}{_save(CLOSED).pk}/", document)


def add_json(client: Client, document: dict[str, object]) -> None:
    _send(client, f"{LIST}add/json/", {"document": json.dumps(document)})


def change_json(client: Client, document: dict[str, object]) -> None:
    send_json(client, _save(CLOSED), document)


def send_json(client: Client, record: BindingRecord, document: dict[str, object]) -> None:
    """Replace a stored definition by its JSON page."""
    opened_with = documents.fingerprint(record.definition())
    _send(client, f"{LIST}{record.pk}/json/", {"document": json.dumps(document), "opened_with": opened_with})


def import_new(client: Client, document: dict[str, object]) -> None:
    page = client.post(f"{LIST}import/", {"text": json.dumps([document])})
    if page.status_code != 200:
        return
    data = read_form(page.content.decode(), "")
    client.post(f"{LIST}import/", {**data, "text": json.dumps([document]), "_apply": "1", "confirm_widening": "1"})


def import_changed(client: Client, document: dict[str, object]) -> None:
    _save(CLOSED)
    import_new(client, document)


def _roll_back(client: Client) -> None:
    revision = BindingRevision.objects.filter(stream=STREAM).order_by("pk").first()
    assert revision is not None
    url = f"{LIST}rollback/{revision.pk}/"
    page = client.get(url)
    if page.status_code == 200:
        _send(client, url, _all_inputs(page.content.decode()))


def roll_back(client: Client, document: dict[str, object]) -> None:
    _save(document)
    _save(CLOSED)
    _roll_back(client)


def restore(client: Client, document: dict[str, object]) -> None:
    _save(document).delete()
    _roll_back(client)


def enable(client: Client, document: dict[str, object]) -> None:
    record = _save({**document, "enabled": False})
    _send(client, LIST, {"action": "enable", "_selected_action": [str(record.pk)], "asked": "yes"})


def enable_by_form(client: Client, document: dict[str, object]) -> None:
    record = _save({**document, "enabled": False})
    page = client.get(f"{LIST}{record.pk}/change/")
    if page.status_code == 200:
        _send(client, f"{LIST}{record.pk}/change/", read_form(page.content.decode()) | {"enabled": "on"})


def _all_inputs(html: str) -> dict[str, object]:
    reader = FormReader("")
    reader.inside = True
    reader.feed(html)
    return reader.data


#: Every way in, by what an operator calls it.
WAYS: dict[str, Callable[[Client, dict[str, object]], None]] = {
    "add": add_form,
    "change": change_form,
    "add as JSON": add_json,
    "change as JSON": change_json,
    "import a new one": import_new,
    "import over one": import_changed,
    "roll back": roll_back,
    "restore": restore,
    "enable in the list": enable,
    "enable in the form": enable_by_form,
}
