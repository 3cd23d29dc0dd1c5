"""The sections of the form: the first one open, the others folded under a heading that shows what they hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.admin.helpers import AdminForm, Fieldset

from admin_ui.editor.fields import DEEDS, WRITING
from declbind.core.spec import DEFAULTS

#: The fields of the form that are not keys of the record.
EXTRA = ("note", "opened_with")
#: The first section is always open; the others are folded, and their headings show what they hold.
FIELDSETS: tuple[tuple[str | None, dict[str, object]], ...] = (
    (None, {"fields": ("model", "stream", "fields", "permissions")}),
    ("Groups", {"fields": ("groups", "auto_subscribe")}),
    ("Rows", {"fields": ("where", "scope")}),
    ("Changes by clients", {"fields": ("direction", "writers", "writable", "relate")}),
    ("Details of the data", {"fields": ("grow", "sensitive", "serializer", "retention")}),
    ("When rows are sent", {"fields": ("capture", "also")}),
    ("State and description", {"fields": ("enabled", "description", *EXTRA)}),
)
#: An existing binding can be stopped without opening a section.
EXISTING = (
    (None, {"fields": ("model", "stream", "enabled", "fields", "permissions")}),
    *FIELDSETS[1:-1],
    ("Description and note", {"fields": ("description", *EXTRA)}),
)
#: The longest text of a heading's value.
LONGEST = 90


@dataclass(frozen=True)
class Section:
    """One section; ``title`` is "" for the first one. ``value`` is what a closed section shows."""

    fieldset: Fieldset
    number: int
    title: str
    value: str
    is_open: bool


def build_sections(adminform: AdminForm, form: Any) -> list[Section]:
    """Return the sections of a form. Those with an error are open."""
    values = describe_sections(form.document)
    sections = []
    fieldsets: Iterable[Any] = adminform
    for number, fieldset in enumerate(fieldsets):
        title, fieldset.name = str(fieldset.name or ""), None
        names = {field.field.name for line in fieldset for field in line}
        sections.append(Section(fieldset, number, title, values.get(title, ""), bool(names & set(form.errors))))
    return sections


def describe_sections(document: Mapping[str, Any]) -> dict[str, str]:
    """Return what each folded section of the form holds, in words; the document need not be valid."""
    values = {**DEFAULTS, **document}
    if isinstance(values["permissions"], str):
        values["permissions"] = dict.fromkeys(WRITING, values["permissions"])
    described = {}
    for title, describe in _DESCRIBED.items():
        try:
            words = describe(values)
        except (TypeError, ValueError, AttributeError, KeyError):
            words = "cannot be shown"
        described[title] = words if len(words) <= LONGEST else f"{words[: LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"
    return described


def _groups(record: Mapping[str, Any]) -> str:
    words = ", ".join(record["groups"]) if record["groups"] else "one for all rows"
    return f"{words}; new connections are subscribed" if record["auto_subscribe"] else words


def _rows(record: Mapping[str, Any]) -> str:
    words = describe_conditions(record["where"]) if record["where"] else "all"
    return f"{words}; each user only their own" if record["scope"] else words


def describe_conditions(conditions: Mapping[str, Any]) -> str:
    """Return conditions in words, such as "published is true and status is open or answered"."""
    return " and ".join(f"{name} is {_values(value)}" for name, value in conditions.items())


def _values(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return " or ".join(map(_values, value))
    return "empty" if value is None else value if isinstance(value, str) else json.dumps(value)


def _writing(record: Mapping[str, Any]) -> str:
    if record["direction"] == "outbound":
        return "none"
    rules = {action: record["permissions"].get(action) for action in WRITING}
    allowed = [action for action in WRITING if rules[action] is not False]
    if not allowed:
        return "nobody may make any"
    if all(rules[action] is None for action in WRITING):
        words = "users with the model's permissions"
    else:
        words = "; ".join(f"{DEEDS[action][0]}: {_rule(rules[action])}" for action in allowed)
    return f"{words}; clients receive no rows" if record["direction"] == "inbound" else words


def _rule(rule: Any) -> str:
    words = {None: "the model's permission", True: "everyone", "authenticated": "logged in", "staff": "staff"}
    return words.get(rule, str(rule))


def _details(record: Mapping[str, Any]) -> str:
    return _joined(
        [
            "later fields are sent too" if record["grow"] else "",
            "sensitive: " + ", ".join(record["sensitive"]) if record["sensitive"] else "",
            "serializer " + record["serializer"] if record["serializer"] != DEFAULTS["serializer"] else "",
            "values deleted after {} seconds".format(record["retention"]) if record["retention"] else "",
        ],
        "nothing special",
    )


def _moments(record: Mapping[str, Any]) -> str:
    if record["direction"] == "inbound":
        return "never"
    words = "after each change" if record["capture"] == "triggers" else "after each change through Django"
    return words + f", and when {_names(record['also'])} changes" if record["also"] else words


def _names(names: Sequence[str]) -> str:
    return " or ".join(names)


def _state(record: Mapping[str, Any]) -> str:
    description = record["description"].strip().replace("\n", " ")
    return _joined(["enabled" if record["enabled"] else "disabled", description], "")


def _description(record: Mapping[str, Any]) -> str:
    return str(record["description"]).strip().replace("\n", " ") or "none"


def _joined(parts: Iterable[str], nothing: str) -> str:
    return "; ".join(part for part in parts if part) or nothing


_DESCRIBED: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "Groups": _groups,
    "Rows": _rows,
    "Changes by clients": _writing,
    "Details of the data": _details,
    "When rows are sent": _moments,
    "State and description": _state,
    "Description and note": _description,
}
