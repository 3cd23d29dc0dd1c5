"""The effects of an edit of a binding record, in plain words, and whether it opens anything.

The latter is decided cautiously. An edit counts as widening unless it is certain that no client can read or write more
than before. Rules, conditions and serializers that cannot be compared count as wider.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from django.utils.translation import gettext

from declbind.core.spec import ACTIONS, BindingSpec

from .comparison import Consequence, compare
from .meaning import Meaning, read_meaning
from .record_words import (
    CAPTURES_ALL,
    MAY,
    MAY_FOR_OWN_ROWS,
    SUBSCRIBES_ALL,
    any_of,
    audience_in_words,
    condition_in_words,
    related_in_words,
    values_as_json,
)


def consequences(
    old: Mapping[str, object] | None,
    new: Mapping[str, object] | None,
    *,
    in_force: bool = True,
    held: Collection[str] = (),
    accepted: Collection[str] = (),
) -> tuple[Consequence, ...]:
    """Return what changes for clients when record ``old`` becomes ``new``; ``None`` is no record. Makes no query.

    ``held`` are the fields that ``old`` does not send until they are accepted (``BindingRecord.held``). The edit
    accepts those in ``accepted``. ``new`` sends others of them only if it names them.

    Never raises, whatever the records contain. Pass ``in_force=False`` if the old record was not in force for a reason
    outside the record, such as a stream that a file has taken. A first record widens only if anyone may do something,
    all fields are sent, or sensitive ones are.
    """
    if new is None:
        return (Consequence("-", gettext("is removed: for clients, the stream no longer exists")),)
    before = read_meaning(old, held)
    after = read_meaning(new, [name for name in held if name not in accepted])
    if after is None:
        text = gettext("cannot be read, so its effects are unknown")
        return (Consequence("~", text, widens=True, opens=frozenset(ACTIONS)),)
    if old is None:
        text = (
            gettext("is a new binding of %(model)s")
            if after.spec.enabled
            else gettext("is a new binding of %(model)s, disabled")
        )
        first = Consequence("+", text % {"model": after.label}, key="model")
        return (first, *_close_unless(after.spec.enabled, _describe(after)))
    if not after.spec.enabled:
        found = list(compare(before, after)) if before is not None else []
        if before is None or before.spec.enabled:
            text = gettext("is disabled: for clients, the stream does not exist")
            found.insert(0, Consequence("-", text, key="enabled"))
        return _close_unless(False, found) or _say_the_same(old, new)
    if before is None or before.problems or not before.spec.enabled or not in_force:
        text = (
            gettext("comes into force (it was disabled)")
            if before is not None and not before.spec.enabled
            else gettext("comes into force (it was not valid)")
        )
        return (Consequence("+", text, True, "enabled", after.open_actions), *_describe(after))
    return tuple(compare(before, after)) or _say_the_same(old, new)


def in_words(found: Iterable[Consequence]) -> str:
    """Return consequences as one line, for a log and for messages."""
    return "; ".join(consequence.text for consequence in found)


def _close_unless(is_open: bool, found: Iterable[Consequence]) -> tuple[Consequence, ...]:
    return tuple(item if is_open else replace(item, widens=False, opens=frozenset()) for item in found)


def _say_the_same(old: Mapping[str, object], new: Mapping[str, object]) -> tuple[Consequence, ...]:
    if json.dumps(old, sort_keys=True, default=str) == json.dumps(new, sort_keys=True, default=str):
        return ()
    return (Consequence("~", gettext("has the same meaning, written differently")),)


# One record, whole ----------------------------------------------------------------------------------------------------


def _describe(after: Meaning) -> Iterator[Consequence]:
    """Describe everything that a new record opens. The parts with ``widens`` require confirmation."""
    spec = after.spec
    if spec.outbound or after.is_open:
        yield Consequence("+", _fields_in_words(after), spec.is_open or not spec.outbound, "fields", after.reading)
    if spec.sensitive:
        text = gettext("exposes sensitive fields: %(names)s") % {"names": ", ".join(spec.sensitive)}
        yield Consequence("+", text, True, "sensitive", after.reading)
    for action in ACTIONS:
        rule = after.rule(action)
        if rule is not False:
            text = (MAY_FOR_OWN_ROWS if spec.scope else MAY)[action] % {"who": audience_in_words(rule)}
            yield Consequence("+", text, rule is True, "permissions", frozenset({action}))
    if after.accepts and not (after.rule("create") is False and after.rule("update") is False):
        text = gettext("accepts %(names)s from clients") % {"names": ", ".join(after.accepts)}
        yield Consequence("+", text, key="writable", opens=after.writing)
    yield from _describe_rows(spec)
    if spec.auto_subscribe:
        yield Consequence("+", str(SUBSCRIBES_ALL), key="auto_subscribe", opens=after.reading)
    if spec.serializer != "default":
        text = gettext("data is made by %(serializer)s") % {"serializer": spec.serializer}
        yield Consequence("~", text, key="serializer")
    if spec.outbound and spec.capture == "triggers":
        yield Consequence("+", str(CAPTURES_ALL), key="capture")
    if spec.outbound and spec.retention is not None:
        text = gettext("keeps values in the log for %(seconds)s s") % {"seconds": spec.retention}
        yield Consequence("-", text, key="retention")
    if spec.outbound and spec.also:
        text = gettext("is sent again when %(relations)s changes") % {"relations": any_of(spec.also)}
        yield Consequence("+", text, key="also", opens=after.reading)


def _fields_in_words(after: Meaning) -> str:
    if not after.spec.outbound:
        return gettext("binds all fields, and fields that are added to the model later")
    names = {"names": ", ".join(after.sends)}
    if after.is_open:
        return (
            gettext("sends %(names)s, and fields that are added to the model later") % names
            if after.sends
            else gettext(
                "sends no field, only that a row changed and its key, and fields that are added to the model later"
            )
        )
    return (
        gettext("sends %(names)s") % names
        if after.sends
        else gettext("sends no field, only that a row changed and its key")
    )


def _describe_rows(spec: BindingSpec) -> Iterator[Consequence]:
    if spec.groups:
        text = gettext("groups rows by %(templates)s") % {"templates": ", ".join(spec.groups)}
        yield Consequence("~", text, key="groups")
    for name, value in spec.where.items():
        condition = condition_in_words(name, values_as_json(value))
        yield Consequence("-", gettext("only rows where %(condition)s") % {"condition": condition}, key="where")
    for name, source in spec.scope.items():
        text = gettext("each user is limited to their own rows: %(condition)s")
        yield Consequence("-", text % {"condition": condition_in_words(name, [source])}, key="scope")
    for name, related in spec.relate.items():
        text = gettext("clients choose for %(field)s %(rows)s") % {"field": name, "rows": related_in_words(related)}
        yield Consequence("-", text, key="relate")


__all__ = ["Consequence", "consequences", "in_words"]
