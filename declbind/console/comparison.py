"""The comparison of two binding records: each effect of an edit, and whether it opens anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from declbind.core.spec import ACTIONS, AUTHENTICATED, STAFF, BindingSpec

from .meaning import Meaning
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


@dataclass(frozen=True)
class Consequence:
    """One effect of an edit: "+" adds, "-" removes, "~" changes; ``key`` is the key of the record.

    ``opens`` are the actions that it newly allows, or allows to more users or for more rows. An effect with ``widens``
    requires confirmation. A new record for users with a permission opens actions without widening.
    """

    sign: Literal["+", "-", "~"]
    text: str
    widens: bool = False
    key: str = ""
    opens: frozenset[str] = frozenset()


def compare(before: Meaning, after: Meaning) -> Iterator[Consequence]:
    old, new = before.spec, after.spec
    if old.stream != new.stream:
        yield Consequence(
            "~", f"is called {new.stream} now; clients of {old.stream} lose their subscriptions", key="stream"
        )
    if before.model is not after.model:
        yield Consequence("~", f"is bound to {after.label} (was: {before.label})", True, "model", after.open_actions)
    yield from _compare_directions(before, after)
    yield from _compare_sent(before, after)
    yield from _compare_names("exposes the sensitive", old.sensitive, new.sensitive, "sensitive", after.reading)
    for action in ACTIONS:
        yield from _compare_rules(before, after, action)
    yield from _compare_asking(before, after)
    if new.inbound:
        yield from _compare_names("accepts", before.accepts, after.accepts, "writable", after.writing)
        if after.accepts_later and not before.accepts_later:
            text = "also accepts editable fields that are added to the model later"
            yield Consequence("+", text, True, "writable", after.writing)
    yield from _compare_groups(before, after)
    yield from _compare_where(before, after)
    yield from _compare_scope(old, new, after.open_actions)
    yield from _compare_relate(old, new, after.writing)
    if old.auto_subscribe != new.auto_subscribe:
        yield (
            Consequence("+", "subscribes new connections automatically", True, "auto_subscribe", after.reading)
            if new.auto_subscribe
            else Consequence("-", "no longer subscribes new connections automatically", key="auto_subscribe")
        )
    if old.serializer != new.serializer:
        # The data of a serializer depends on its code.
        text = f"data is made by {new.serializer} (was: {old.serializer})"
        yield Consequence("~", text, True, "serializer", after.reading)
    yield from _compare_capture(old, new, after.reading)
    yield from _compare_retention(old, new)
    if old.description != new.description:
        yield Consequence("~", "has another description", key="description")


def _compare_directions(before: Meaning, after: Meaning) -> Iterator[Consequence]:
    old, new = before.spec, after.spec
    for was, now, opened, closed, actions in (
        (old.outbound, new.outbound, "sends changes to clients", "no longer sends changes to clients", {"view"}),
        (
            old.inbound,
            new.inbound,
            "accepts changes from clients",
            "no longer accepts changes from clients",
            ACTIONS[1:],
        ),
    ):
        if was != now:
            opens = after.open_actions.intersection(actions) if now else frozenset[str]()
            yield Consequence("+" if now else "-", opened if now else closed, now, "direction", opens)


def _compare_sent(before: Meaning, after: Meaning) -> Iterator[Consequence]:
    # If nothing is sent, clients can still test the values of bound fields by conditions of writes.
    verb = "sends" if after.spec.outbound else "binds"
    yield from _compare_names(verb, before.sends, after.sends, "fields", after.reading)
    if after.is_open and not before.is_open:
        yield Consequence("+", f"also {verb} fields that are added to the model later", True, "grow", after.reading)
    elif before.is_open and not after.is_open:
        yield Consequence("-", f"no longer {verb} fields that are added to the model later", key="grow")
    if before.sends != after.sends and set(before.sends) == set(after.sends):
        yield Consequence("~", f"{verb} the fields in another order", key="fields")


def _compare_names(
    verb: str, old: Sequence[str], new: Sequence[str], key: str, opens: frozenset[str]
) -> Iterator[Consequence]:
    added, gone = [name for name in new if name not in old], [name for name in old if name not in new]
    if added:
        yield Consequence("+", f"also {verb} {', '.join(added)}", True, key, opens)
    if gone:
        yield Consequence("-", f"no longer {verb} {', '.join(gone)}", key=key)


def _compare_rules(before: Meaning, after: Meaning, action: str) -> Iterator[Consequence]:
    old, new = before.rule(action), after.rule(action)
    is_closed = not (after.spec.outbound if action == "view" else after.spec.inbound)
    if old == new or is_closed:
        return
    was = f"(was: {audience_in_words(old)})"
    if new is False:
        text = "no user may subscribe any more" if action == "view" else f"no longer accepts {action}"
        yield Consequence("-", f"{text} {was}", key="permissions")
    elif _is_narrower(old, new):
        yield Consequence("-", f"only {audience_in_words(new)} may {DEEDS[action]} {was}", key="permissions")
    else:
        # A different codename counts as wider, because it is not known which users hold one but not the other.
        yield Consequence(
            "+", f"{audience_in_words(new)} may {DEEDS[action]} {was}", True, "permissions", frozenset({action})
        )


def _compare_asking(before: Meaning, after: Meaning) -> Iterator[Consequence]:
    """Compare who may put conditions on writes, which disclose values.

    If nothing is sent, the view rule still decides this.
    """
    old, new = before.written_rule("view"), after.written_rule("view")
    if after.spec.outbound or old == new or not after.reading:
        return
    was = f"(was: {audience_in_words(old)})"
    if _is_narrower(old, new):
        yield Consequence(
            "-", f"only {audience_in_words(new)} may ask for values when they write {was}", key="permissions"
        )
    else:
        text = f"{audience_in_words(new)} may ask for values when they write {was}"
        yield Consequence("+", text, True, "permissions", after.reading)


def _is_narrower(old: str | bool, new: str | bool) -> bool:
    return new is False or old is True or (old, new) == (AUTHENTICATED, STAFF)


def _compare_groups(before: Meaning, after: Meaning) -> Iterator[Consequence]:
    if before.spec.groups == after.spec.groups:
        return
    old = {item.text: before.columns(item.placeholders) for item in before.spec.group_templates}
    new = {item.text: after.columns(item.placeholders) for item in after.spec.group_templates}
    for text, columns in new.items():
        if text in old:
            continue
        twin = next((other for other, same in old.items() if same == columns and other not in new), None)
        if twin is not None:
            yield Consequence("~", f"group {twin} is called {text} now", key="groups")
            continue
        # A new template opens nothing if an old one has a subset of its placeholders: its subscribers already see the
        # same rows, including the additional values. A row with a null placeholder is in no group.
        reached = any(other <= columns and columns - other <= before.known for other in old.values())
        opens = frozenset() if reached else after.reading
        yield Consequence("+", f"also groups rows by {text}", not reached, "groups", opens)
    for text, columns in old.items():
        if text not in new and columns not in new.values():
            yield Consequence("-", f"no longer groups rows by {text}", key="groups")


def _compare_where(before: Meaning, after: Meaning) -> Iterator[Consequence]:
    old, new, opens = before.spec, after.spec, after.open_actions
    for name in dict.fromkeys((*old.where, *new.where)):
        if name not in new.where:
            text = f"also rows without {condition_in_words(name, values_as_json(old.where[name]))}"
            yield Consequence("+", text, True, "where", opens)
            continue
        # The condition selects fewer rows, but discloses the value of a column that is not sent.
        disclosed = frozenset() if after.columns([name]) <= after.known else after.reading
        now = values_as_json(new.where[name])
        if name not in old.where:
            yield Consequence("-", f"only rows where {condition_in_words(name, now)}", key="where", opens=disclosed)
            continue
        was = values_as_json(old.where[name])
        added, gone = [item for item in now if item not in was], [item for item in was if item not in now]
        if added:
            yield Consequence("+", f"also rows where {condition_in_words(name, added)}", True, "where", opens)
        if gone:
            yield Consequence(
                "-", f"no longer rows where {condition_in_words(name, gone)}", key="where", opens=disclosed
            )


def _compare_scope(old: BindingSpec, new: BindingSpec, opens: frozenset[str]) -> Iterator[Consequence]:
    for name in dict.fromkeys((*old.scope, *new.scope)):
        was, now = old.scope.get(name), new.scope.get(name)
        if was == now:
            continue
        if now is None:
            text = f"users are no longer limited to their own rows by {name} (was: {was})"
            yield Consequence("+", text, True, "scope", opens)
        elif was is None:
            yield Consequence("-", f"each user is limited to their own rows: {name} is {now}", key="scope")
        else:
            text = f"own rows are those whose {name} is {now} (was: {was})"
            yield Consequence("~", text, True, "scope", opens)


def _compare_relate(old: BindingSpec, new: BindingSpec, opens: frozenset[str]) -> Iterator[Consequence]:
    for name in dict.fromkeys((*old.relate, *new.relate)):
        was, now = old.relate.get(name, "any"), new.relate.get(name, "any")
        if was == now:
            continue
        text = f"clients choose for {name} {related_in_words(now)} (was: {related_in_words(was)})"
        # More conditions allow fewer rows. Two different rules cannot be compared.
        is_narrower = isinstance(was, str) or (not isinstance(now, str) and was.items() <= now.items())
        yield Consequence("-" if is_narrower else "+", text, not is_narrower, "relate", opens)


def _compare_capture(old: BindingSpec, new: BindingSpec, opens: frozenset[str]) -> Iterator[Consequence]:
    if not new.outbound:
        return
    was, now = old.capture == "triggers", new.capture == "triggers"
    if was != now:
        # This is not wider, because the same clients would see the same rows in a snapshot.
        yield (
            Consequence("+", CAPTURES_ALL, key="capture")
            if now
            else Consequence("-", "no longer captures raw SQL and other programs", key="capture")
        )
    added, gone = [path for path in new.also if path not in old.also], [p for p in old.also if p not in new.also]
    if added:
        # This is wider although no further column is sent. A repeated row discloses when a row of another model was
        # written, which the subscribers may not be allowed to view. A relation to users discloses each login.
        yield Consequence("+", f"is sent again when {any_of(added)} changes", True, "also", opens)
    if gone:
        yield Consequence("-", f"is no longer sent again when {any_of(gone)} changes", key="also")


def _compare_retention(old: BindingSpec, new: BindingSpec) -> Iterator[Consequence]:
    if old.retention == new.retention:
        return
    # This is not wider, because clients that may resume may also take a snapshot.
    sign: Literal["+", "-"] = "-" if old.retention is None or (new.retention or 2**31) < old.retention else "+"
    was, now = retention_in_words(old.retention), retention_in_words(new.retention)
    yield Consequence(sign, f"keeps values in the log {now} (was: {was})", key="retention")
