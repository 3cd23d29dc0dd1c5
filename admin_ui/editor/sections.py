"""The sections of the form: the first one open, the others folded under a heading that shows what they hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from django.contrib.admin.helpers import AdminForm, Fieldset
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from admin_ui.common.phrases import StrOrPromise
from admin_ui.editor.fields import DEEDS, WRITING
from declbind.core.spec import DEFAULTS

#: The fields of the form that are not keys of the record.
EXTRA = ("note", "opened_with")
#: The first section is always open; the others are folded, and their headings show what they hold.
FIELDSETS: tuple[tuple[StrOrPromise | None, dict[str, object]], ...] = (
    (None, {"fields": ("model", "stream", "fields", "permissions")}),
    (gettext_lazy("Groups"), {"fields": ("groups", "auto_subscribe")}),
    (gettext_lazy("Rows"), {"fields": ("where", "scope")}),
    (gettext_lazy("Changes by clients"), {"fields": ("direction", "writers", "writable", "relate")}),
    (gettext_lazy("Details of the data"), {"fields": ("grow", "sensitive", "serializer", "retention")}),
    (gettext_lazy("When rows are sent"), {"fields": ("capture", "also")}),
    (gettext_lazy("State and description"), {"fields": ("enabled", "description", *EXTRA)}),
)
#: An existing binding can be stopped without opening a section.
EXISTING = (
    (None, {"fields": ("model", "stream", "enabled", "fields", "permissions")}),
    *FIELDSETS[1:-1],
    (gettext_lazy("Description and note"), {"fields": ("description", *EXTRA)}),
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
    for title, describe in _DESCRIBED:
        try:
            words = describe(values)
        except (TypeError, ValueError, AttributeError, KeyError):
            words = _("cannot be shown")
        described[str(title)] = words if len(words) <= LONGEST else f"{words[: LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"
    return described


def _groups(record: Mapping[str, Any]) -> str:
    words = ", ".join(record["groups"]) if record["groups"] else _("one for all rows")
    return _("{groups}; new connections are subscribed").format(groups=words) if record["auto_subscribe"] else words


def _rows(record: Mapping[str, Any]) -> str:
    words = describe_conditions(record["where"]) if record["where"] else _("all")
    return _("{rows}; each user only their own").format(rows=words) if record["scope"] else words


def describe_conditions(conditions: Mapping[str, Any]) -> str:
    """Return conditions in words, such as "published is true and status is open or answered"."""
    words = [_("{field} is {value}").format(field=name, value=_values(value)) for name, value in conditions.items()]
    if not words:
        return ""
    return reduce(lambda first, second: _("{first} and {second}").format(first=first, second=second), words)


def _values(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return _either(list(map(_values, value)))
    return _("empty") if value is None else value if isinstance(value, str) else json.dumps(value)


def _writing(record: Mapping[str, Any]) -> str:
    if record["direction"] == "outbound":
        return _("none")
    rules = {action: record["permissions"].get(action) for action in WRITING}
    allowed = [action for action in WRITING if rules[action] is not False]
    if not allowed:
        return _("nobody may make any")
    if all(rules[action] is None for action in WRITING):
        words = _("users with the model's permissions")
    else:
        words = "; ".join(
            _("{action}: {rule}").format(action=DEEDS[action].text, rule=_rule(rules[action])) for action in allowed
        )
    return _("{writers}; clients receive no rows").format(writers=words) if record["direction"] == "inbound" else words


def _rule(rule: Any) -> str:
    words = {
        None: _("the model's permission"),
        True: _("everyone"),
        "authenticated": _("logged in"),
        "staff": _("staff"),
    }
    return words.get(rule, str(rule))


def _details(record: Mapping[str, Any]) -> str:
    return _joined(
        [
            _("later fields are sent too") if record["grow"] else "",
            _("sensitive: {fields}").format(fields=", ".join(record["sensitive"])) if record["sensitive"] else "",
            _("serializer {name}").format(name=record["serializer"])
            if record["serializer"] != DEFAULTS["serializer"]
            else "",
            _retention(record["retention"]),
        ],
        _("nothing special"),
    )


def _retention(seconds: Any) -> str:
    if not seconds:
        return ""
    words = ngettext("values deleted after {number} second", "values deleted after {number} seconds", int(seconds))
    return words.format(number=seconds)


def _moments(record: Mapping[str, Any]) -> str:
    if record["direction"] == "inbound":
        return _("never")
    by_triggers = record["capture"] == "triggers"
    if not record["also"]:
        return _("after each change") if by_triggers else _("after each change through Django")
    words = (
        _("after each change, and when {relations} changes")
        if by_triggers
        else _("after each change through Django, and when {relations} changes")
    )
    return words.format(relations=_either(record["also"]))


def _either(names: Sequence[str]) -> str:
    if not names:
        return ""
    return reduce(lambda first, second: _("{first} or {second}").format(first=first, second=second), names)


def _state(record: Mapping[str, Any]) -> str:
    description = record["description"].strip().replace("\n", " ")
    return _joined([_("enabled") if record["enabled"] else _("disabled"), description], "")


def _description(record: Mapping[str, Any]) -> str:
    return str(record["description"]).strip().replace("\n", " ") or _("none")


def _joined(parts: Iterable[str], nothing: str) -> str:
    return "; ".join(part for part in parts if part) or nothing


_DESCRIBED: tuple[tuple[StrOrPromise, Callable[[Mapping[str, Any]], str]], ...] = (
    (gettext_lazy("Groups"), _groups),
    (gettext_lazy("Rows"), _rows),
    (gettext_lazy("Changes by clients"), _writing),
    (gettext_lazy("Details of the data"), _details),
    (gettext_lazy("When rows are sent"), _moments),
    (gettext_lazy("State and description"), _state),
    (gettext_lazy("Description and note"), _description),
)
