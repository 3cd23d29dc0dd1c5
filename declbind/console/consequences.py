"""The effects of an edit of a binding record, in plain words, and whether it opens anything.

The latter is decided cautiously. An edit counts as widening unless it is certain that no client can read or write more
than before. Rules, conditions and serializers that cannot be compared count as wider.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from declbind.core.spec import ACTIONS

from .comparison import Consequence, compare
from .meaning import Meaning, read_meaning
from .record_words import (
    CAPTURES_ALL,
    DEEDS,
    any_of,
    audience_in_words,
    condition_in_words,
    related_in_words,
    retention_in_words,
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
        return (Consequence("-", "is removed: for clients, the stream no longer exists"),)
    before = read_meaning(old, held)
    after = read_meaning(new, [name for name in held if name not in accepted])
    if after is None:
        return (Consequence("~", "cannot be read, so its effects are unknown", widens=True, opens=frozenset(ACTIONS)),)
    if old is None:
        off = "" if after.spec.enabled else ", disabled"
        first = Consequence("+", f"is a new binding of {after.label}{off}", key="model")
        return (first, *_close_unless(after.spec.enabled, _describe(after)))
    if not after.spec.enabled:
        found = list(compare(before, after)) if before is not None else []
        if before is None or before.spec.enabled:
            found.insert(0, Consequence("-", "is disabled: for clients, the stream does not exist", key="enabled"))
        return _close_unless(False, found) or _say_the_same(old, new)
    if before is None or before.problems or not before.spec.enabled or not in_force:
        why = "disabled" if before is not None and not before.spec.enabled else "not valid"
        return (
            Consequence("+", f"comes into force (it was {why})", True, "enabled", after.open_actions),
            *_describe(after),
        )
    return tuple(compare(before, after)) or _say_the_same(old, new)


def in_words(found: Iterable[Consequence]) -> str:
    """Return consequences as one line, for a log and for messages."""
    return "; ".join(consequence.text for consequence in found)


def _close_unless(is_open: bool, found: Iterable[Consequence]) -> tuple[Consequence, ...]:
    return tuple(item if is_open else replace(item, widens=False, opens=frozenset()) for item in found)


def _say_the_same(old: Mapping[str, object], new: Mapping[str, object]) -> tuple[Consequence, ...]:
    if json.dumps(old, sort_keys=True, default=str) == json.dumps(new, sort_keys=True, default=str):
        return ()
    return (Consequence("~", "has the same meaning, written differently"),)


# One record, whole ----------------------------------------------------------------------------------------------------


def _describe(after: Meaning) -> Iterator[Consequence]:
    """Describe everything that a new record opens. The parts with ``widens`` require confirmation."""
    spec = after.spec
    if spec.outbound:
        text = ", ".join(after.sends) or "no field, only that a row changed and its key"
        later = ", and fields that are added to the model later" if after.is_open else ""
        yield Consequence("+", f"sends {text}{later}", spec.is_open, "fields", after.reading)
    elif after.is_open:
        yield Consequence(
            "+", "binds all fields, and fields that are added to the model later", True, "fields", after.reading
        )
    if spec.sensitive:
        text = f"exposes sensitive fields: {', '.join(spec.sensitive)}"
        yield Consequence("+", text, True, "sensitive", after.reading)
    for action in ACTIONS:
        rule = after.rule(action)
        if rule is not False:
            own = ", own rows only" if spec.scope else ""
            text = f"{audience_in_words(rule)} may {DEEDS[action]}{own}"
            yield Consequence("+", text, rule is True, "permissions", frozenset({action}))
    if after.accepts and not (after.rule("create") is False and after.rule("update") is False):
        yield Consequence("+", f"accepts {', '.join(after.accepts)} from clients", key="writable", opens=after.writing)
    if spec.groups:
        yield Consequence("~", f"groups rows by {', '.join(spec.groups)}", key="groups")
    for name, value in spec.where.items():
        yield Consequence("-", f"only rows where {condition_in_words(name, values_as_json(value))}", key="where")
    for name, source in spec.scope.items():
        yield Consequence("-", f"each user is limited to their own rows: {name} is {source}", key="scope")
    for name, related in spec.relate.items():
        yield Consequence("-", f"clients choose for {name} {related_in_words(related)}", key="relate")
    if spec.auto_subscribe:
        text = "subscribes new connections automatically"
        yield Consequence("+", text, key="auto_subscribe", opens=after.reading)
    if spec.serializer != "default":
        yield Consequence("~", f"data is made by {spec.serializer}", key="serializer")
    if spec.outbound and spec.capture == "triggers":
        yield Consequence("+", CAPTURES_ALL, key="capture")
    if spec.outbound and spec.retention is not None:
        yield Consequence("-", f"keeps values in the log {retention_in_words(spec.retention)}", key="retention")
    if spec.outbound and spec.also:
        yield Consequence("+", f"is sent again when {any_of(spec.also)} changes", key="also", opens=after.reading)


__all__ = ["Consequence", "consequences", "in_words"]
