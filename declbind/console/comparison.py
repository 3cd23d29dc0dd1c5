"""The comparison of two binding records: each effect of an edit, and whether it opens anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from declbind.core.spec import ACTIONS, AUTHENTICATED, STAFF, BindingSpec

from .meaning import Meaning
from .record_words import (
    CAPTURES_ALL,
    SUBSCRIBES_ALL,
    any_of,
    audience_in_words,
    condition_in_words,
    related_in_words,
    values_as_json,
)

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise as Text

#: The effects of names that are added to a list of the record, and of names that are removed from it.
SENDS: Final = _("also sends %(names)s"), _("no longer sends %(names)s")
BINDS: Final = _("also binds %(names)s"), _("no longer binds %(names)s")
EXPOSES: Final = _("also exposes the sensitive %(names)s"), _("no longer exposes the sensitive %(names)s")
ACCEPTS: Final = _("also accepts %(names)s"), _("no longer accepts %(names)s")
#: The effects of a rule that admits nobody any more.
CLOSED: Final = {
    "view": _("no user may subscribe any more (was: %(was)s)"),
    "create": _("no longer accepts create (was: %(was)s)"),
    "update": _("no longer accepts update (was: %(was)s)"),
    "delete": _("no longer accepts delete (was: %(was)s)"),
}
NARROWER: Final = {
    "view": _("only %(who)s may subscribe (was: %(was)s)"),
    "create": _("only %(who)s may create rows (was: %(was)s)"),
    "update": _("only %(who)s may change rows (was: %(was)s)"),
    "delete": _("only %(who)s may delete rows (was: %(was)s)"),
}
WIDER: Final = {
    "view": _("%(who)s may subscribe (was: %(was)s)"),
    "create": _("%(who)s may create rows (was: %(was)s)"),
    "update": _("%(who)s may change rows (was: %(was)s)"),
    "delete": _("%(who)s may delete rows (was: %(was)s)"),
}


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
        text = gettext("is called %(new)s now; clients of %(old)s lose their subscriptions")
        yield Consequence("~", text % {"new": new.stream, "old": old.stream}, key="stream")
    if before.model is not after.model:
        text = gettext("is bound to %(now)s (was: %(was)s)") % {"now": after.label, "was": before.label}
        yield Consequence("~", text, True, "model", after.open_actions)
    yield from _compare_directions(before, after)
    yield from _compare_sent(before, after)
    yield from _compare_names(EXPOSES, old.sensitive, new.sensitive, "sensitive", after.reading)
    for action in ACTIONS:
        yield from _compare_rules(before, after, action)
    yield from _compare_asking(before, after)
    if new.inbound:
        yield from _compare_names(ACCEPTS, before.accepts, after.accepts, "writable", after.writing)
        if after.accepts_later and not before.accepts_later:
            text = gettext("also accepts editable fields that are added to the model later")
            yield Consequence("+", text, True, "writable", after.writing)
    yield from _compare_groups(before, after)
    yield from _compare_where(before, after)
    yield from _compare_scope(old, new, after.open_actions)
    yield from _compare_relate(old, new, after.writing)
    if old.auto_subscribe != new.auto_subscribe:
        yield (
            Consequence("+", str(SUBSCRIBES_ALL), True, "auto_subscribe", after.reading)
            if new.auto_subscribe
            else Consequence("-", gettext("no longer subscribes new connections automatically"), key="auto_subscribe")
        )
    if old.serializer != new.serializer:
        # The data of a serializer depends on its code.
        text = gettext("data is made by %(now)s (was: %(was)s)") % {"now": new.serializer, "was": old.serializer}
        yield Consequence("~", text, True, "serializer", after.reading)
    yield from _compare_capture(old, new, after.reading)
    yield from _compare_retention(old, new)
    if old.description != new.description:
        yield Consequence("~", gettext("has another description"), key="description")


def _compare_directions(before: Meaning, after: Meaning) -> Iterator[Consequence]:
    old, new = before.spec, after.spec
    for was, now, opened, closed, actions in (
        (
            old.outbound,
            new.outbound,
            gettext("sends changes to clients"),
            gettext("no longer sends changes to clients"),
            {"view"},
        ),
        (
            old.inbound,
            new.inbound,
            gettext("accepts changes from clients"),
            gettext("no longer accepts changes from clients"),
            ACTIONS[1:],
        ),
    ):
        if was != now:
            opens = after.open_actions.intersection(actions) if now else frozenset[str]()
            yield Consequence("+" if now else "-", opened if now else closed, now, "direction", opens)


def _compare_sent(before: Meaning, after: Meaning) -> Iterator[Consequence]:
    # If nothing is sent, clients can still test the values of bound fields by conditions of writes.
    is_sent = after.spec.outbound
    yield from _compare_names(SENDS if is_sent else BINDS, before.sends, after.sends, "fields", after.reading)
    if after.is_open and not before.is_open:
        text = (
            gettext("also sends fields that are added to the model later")
            if is_sent
            else gettext("also binds fields that are added to the model later")
        )
        yield Consequence("+", text, True, "grow", after.reading)
    elif before.is_open and not after.is_open:
        text = (
            gettext("no longer sends fields that are added to the model later")
            if is_sent
            else gettext("no longer binds fields that are added to the model later")
        )
        yield Consequence("-", text, key="grow")
    if before.sends != after.sends and set(before.sends) == set(after.sends):
        text = gettext("sends the fields in another order") if is_sent else gettext("binds the fields in another order")
        yield Consequence("~", text, key="fields")


def _compare_names(
    effects: tuple[Text, Text], old: Sequence[str], new: Sequence[str], key: str, opens: frozenset[str]
) -> Iterator[Consequence]:
    added, gone = [name for name in new if name not in old], [name for name in old if name not in new]
    if added:
        yield Consequence("+", effects[0] % {"names": ", ".join(added)}, True, key, opens)
    if gone:
        yield Consequence("-", effects[1] % {"names": ", ".join(gone)}, key=key)


def _compare_rules(before: Meaning, after: Meaning, action: str) -> Iterator[Consequence]:
    old, new = before.rule(action), after.rule(action)
    is_closed = not (after.spec.outbound if action == "view" else after.spec.inbound)
    if old == new or is_closed:
        return
    words = {"who": audience_in_words(new), "was": audience_in_words(old)}
    if new is False:
        yield Consequence("-", CLOSED[action] % words, key="permissions")
    elif _is_narrower(old, new):
        yield Consequence("-", NARROWER[action] % words, key="permissions")
    else:
        # A different codename counts as wider, because it is not known which users hold one but not the other.
        yield Consequence("+", WIDER[action] % words, True, "permissions", frozenset({action}))


def _compare_asking(before: Meaning, after: Meaning) -> Iterator[Consequence]:
    """Compare who may put conditions on writes, which disclose values.

    If nothing is sent, the view rule still decides this.
    """
    old, new = before.written_rule("view"), after.written_rule("view")
    if after.spec.outbound or old == new or not after.reading:
        return
    words = {"who": audience_in_words(new), "was": audience_in_words(old)}
    if _is_narrower(old, new):
        text = gettext("only %(who)s may ask for values when they write (was: %(was)s)") % words
        yield Consequence("-", text, key="permissions")
    else:
        text = gettext("%(who)s may ask for values when they write (was: %(was)s)") % words
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
            renamed = gettext("group %(old)s is called %(new)s now") % {"old": twin, "new": text}
            yield Consequence("~", renamed, key="groups")
            continue
        # A new template opens nothing if an old one has a subset of its placeholders: its subscribers already see the
        # same rows, including the additional values. A row with a null placeholder is in no group.
        reached = any(other <= columns and columns - other <= before.known for other in old.values())
        opens = frozenset() if reached else after.reading
        added = gettext("also groups rows by %(template)s") % {"template": text}
        yield Consequence("+", added, not reached, "groups", opens)
    for text, columns in old.items():
        if text not in new and columns not in new.values():
            gone = gettext("no longer groups rows by %(template)s") % {"template": text}
            yield Consequence("-", gone, key="groups")


def _compare_where(before: Meaning, after: Meaning) -> Iterator[Consequence]:
    old, new, opens = before.spec, after.spec, after.open_actions
    for name in dict.fromkeys((*old.where, *new.where)):
        if name not in new.where:
            condition = condition_in_words(name, values_as_json(old.where[name]))
            text = gettext("also rows without %(condition)s") % {"condition": condition}
            yield Consequence("+", text, True, "where", opens)
            continue
        # The condition selects fewer rows, but discloses the value of a column that is not sent.
        disclosed = frozenset() if after.columns([name]) <= after.known else after.reading
        now = values_as_json(new.where[name])
        if name not in old.where:
            text = gettext("only rows where %(condition)s") % {"condition": condition_in_words(name, now)}
            yield Consequence("-", text, key="where", opens=disclosed)
            continue
        was = values_as_json(old.where[name])
        added, gone = [item for item in now if item not in was], [item for item in was if item not in now]
        if added:
            text = gettext("also rows where %(condition)s") % {"condition": condition_in_words(name, added)}
            yield Consequence("+", text, True, "where", opens)
        if gone:
            text = gettext("no longer rows where %(condition)s") % {"condition": condition_in_words(name, gone)}
            yield Consequence("-", text, key="where", opens=disclosed)


def _compare_scope(old: BindingSpec, new: BindingSpec, opens: frozenset[str]) -> Iterator[Consequence]:
    for name in dict.fromkeys((*old.scope, *new.scope)):
        was, now = old.scope.get(name), new.scope.get(name)
        if was == now:
            continue
        if now is None:
            text = gettext("users are no longer limited to their own rows by %(field)s (was: %(was)s)")
            yield Consequence("+", text % {"field": name, "was": was}, True, "scope", opens)
        elif was is None:
            text = gettext("each user is limited to their own rows: %(condition)s")
            yield Consequence("-", text % {"condition": condition_in_words(name, [now])}, key="scope")
        else:
            text = gettext("own rows are those whose %(condition)s (was: %(was)s)")
            words = {"condition": condition_in_words(name, [now]), "was": was}
            yield Consequence("~", text % words, True, "scope", opens)


def _compare_relate(old: BindingSpec, new: BindingSpec, opens: frozenset[str]) -> Iterator[Consequence]:
    for name in dict.fromkeys((*old.relate, *new.relate)):
        was, now = old.relate.get(name, "any"), new.relate.get(name, "any")
        if was == now:
            continue
        text = gettext("clients choose for %(field)s %(now)s (was: %(was)s)") % {
            "field": name,
            "now": related_in_words(now),
            "was": related_in_words(was),
        }
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
            Consequence("+", str(CAPTURES_ALL), key="capture")
            if now
            else Consequence("-", gettext("no longer captures raw SQL and other programs"), key="capture")
        )
    added, gone = [path for path in new.also if path not in old.also], [p for p in old.also if p not in new.also]
    if added:
        # This is wider although no further column is sent. A repeated row discloses when a row of another model was
        # written, which the subscribers may not be allowed to view. A relation to users discloses each login.
        text = gettext("is sent again when %(relations)s changes") % {"relations": any_of(added)}
        yield Consequence("+", text, True, "also", opens)
    if gone:
        text = gettext("is no longer sent again when %(relations)s changes") % {"relations": any_of(gone)}
        yield Consequence("-", text, key="also")


def _compare_retention(old: BindingSpec, new: BindingSpec) -> Iterator[Consequence]:
    if old.retention == new.retention:
        return
    # This is not wider, because clients that may resume may also take a snapshot.
    sign: Literal["+", "-"] = "-" if old.retention is None or (new.retention or 2**31) < old.retention else "+"
    if new.retention is None:
        text = gettext("keeps values in the log as long as the settings say (was: for %(was)s s)")
    elif old.retention is None:
        text = gettext("keeps values in the log for %(now)s s (was: as long as the settings say)")
    else:
        text = gettext("keeps values in the log for %(now)s s (was: for %(was)s s)")
    yield Consequence(sign, text % {"now": new.retention, "was": old.retention}, key="retention")
