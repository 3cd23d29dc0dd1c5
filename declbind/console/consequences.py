"""The effects of an edit of a binding record, in plain words, and whether it opens anything.

The second answer is safe rather than exact. An edit counts as widening unless it is certain that no client can read or
write more than before. Rules, conditions and serializers that cannot be compared count as wider.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from declbind import record_validation
from declbind.bindings import DJANGO_ACTIONS
from declbind.core.spec import ACTIONS, AUTHENTICATED, STAFF, BindingSpec
from declbind.core.wording import AUDIENCE_WORDS
from declbind.fields import bound_fields, concrete_field, find_model, hold_back, writable_fields

#: What each action allows, as a text that follows "may".
DEEDS = {"view": "subscribe", "create": "create rows", "update": "change rows", "delete": "delete rows"}

HEARS_ALL = "also captures raw SQL and other programs, once its triggers are installed"


@dataclass(frozen=True)
class Consequence:
    """One effect of an edit: "+" adds, "-" removes, "~" changes; ``key`` is the key of the record.

    ``opens`` are the actions that it allows to users who could not do them, or could do less. Effects with ``widens``
    require confirmation. A first record that admits holders of a permission opens without widening.
    """

    sign: Literal["+", "-", "~"]
    text: str
    widens: bool = False
    key: str = ""
    opens: frozenset[str] = frozenset()


def consequences(
    old: Mapping[str, Any] | None,
    new: Mapping[str, Any] | None,
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
    before = _read(old, held)
    after = _read(new, [name for name in held if name not in accepted])
    if after is None:
        return (Consequence("~", "cannot be read as it is", widens=True, opens=frozenset(ACTIONS)),)
    if old is None:
        off = "" if after.spec.enabled else ", disabled"
        first = Consequence("+", f"is a new binding of {after.label}{off}", key="model")
        return (first, *_close_unless(after.spec.enabled, _describe(after)))
    if not after.spec.enabled:
        found = list(_compare(before, after)) if before is not None else []
        if before is None or before.spec.enabled:
            found.insert(0, Consequence("-", "is disabled: for clients, the stream does not exist", key="enabled"))
        return _close_unless(False, found) or _say_the_same(old, new)
    if before is None or before.problems or not before.spec.enabled or not in_force:
        why = "disabled" if before is not None and not before.spec.enabled else "not valid"
        return (
            Consequence("+", f"comes into force (it was {why})", True, "enabled", after.open_actions),
            *_describe(after),
        )
    return tuple(_compare(before, after)) or _say_the_same(old, new)


def in_words(found: Iterable[Consequence]) -> str:
    """Return consequences as one line, for a log and for messages."""
    return "; ".join(consequence.text for consequence in found)


# The meaning of a record
# -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Meaning:
    """A record resolved against its model; ``problems`` shows whether it is out of force."""

    spec: BindingSpec
    model: Any
    problems: bool

    @property
    def label(self) -> str:
        return str(self.model._meta.label)

    @property
    def sends(self) -> tuple[str, ...]:
        return tuple(field.name for field in bound_fields(self.model, self.spec))

    @property
    def is_open(self) -> bool:
        """Whether fields that are added to the model later are sent too."""
        return self.spec.grows

    @property
    def accepts(self) -> tuple[str, ...]:
        return tuple(field.name for field in writable_fields(self.model, self.spec)) if self.spec.inbound else ()

    @property
    def accepts_later(self) -> bool:
        """Whether clients may write fields that are added to the model later."""
        return self.spec.inbound and self.is_open and self.spec.writable is None

    @property
    def known(self) -> set[str]:
        """The columns whose values a reader of a row receives."""
        return {getattr(field, "attname", field.name) for field in bound_fields(self.model, self.spec)} | {
            self.model._meta.pk.attname
        }

    def rule(self, action: str) -> str | bool:
        """Return who may do it: ``False`` if the direction is closed, Django's codename if the record has no rule."""
        is_closed = not (self.spec.outbound if action == "view" else self.spec.inbound)
        return False if is_closed else self.written_rule(action)

    def written_rule(self, action: str) -> str | bool:
        """Return the rule of the record in any direction. The view rule also counts for conditions of writes."""
        rule: str | bool | None = self.spec.permissions.get(action)
        options = self.model._meta
        return f"{options.app_label}.{DJANGO_ACTIONS[action]}_{options.model_name}" if rule is None else rule

    @property
    def open_actions(self) -> frozenset[str]:
        """The actions that the record allows."""
        return frozenset(action for action in ACTIONS if self.rule(action) is not False)

    @property
    def reading(self) -> frozenset[str]:
        """The actions by which clients learn values. Clients that may write can ask for values with ``if``."""
        return self.open_actions & ({"view"} if self.spec.outbound else {"update", "delete"})

    @property
    def writing(self) -> frozenset[str]:
        """The actions by which clients set values."""
        return self.open_actions & {"create", "update"}

    def columns(self, names: Iterable[str]) -> frozenset[str]:
        """Return the columns behind a template's placeholders, which may have two names."""
        return frozenset(self._column(name) for name in names)

    def _column(self, name: str) -> str:
        try:
            return concrete_field(self.model, name).attname
        except LookupError:
            return name


def _read(document: Mapping[str, Any] | None, held: Collection[str]) -> _Meaning | None:
    spec, problems = record_validation.validate_document(document)
    model = find_model(spec.model) if spec is not None else None
    if spec is None or model is None:
        return None
    return _Meaning(hold_back(model, spec, held) if not spec.grow else spec, model, bool(problems))


def _close_unless(is_open: bool, found: Iterable[Consequence]) -> tuple[Consequence, ...]:
    return tuple(item if is_open else replace(item, widens=False, opens=frozenset()) for item in found)


def _say_the_same(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Consequence, ...]:
    if json.dumps(old, sort_keys=True, default=str) == json.dumps(new, sort_keys=True, default=str):
        return ()
    return (Consequence("~", "has the same meaning, written differently"),)


# One record, whole ----------------------------------------------------------------------------------------------------


def _describe(after: _Meaning) -> Iterator[Consequence]:
    """Describe everything that a record opens. What widens requires confirmation of a first record."""
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
            text = f"{_who(rule)} may {DEEDS[action]}{own}"
            yield Consequence("+", text, rule is True, "permissions", frozenset({action}))
    if after.accepts and not (after.rule("create") is False and after.rule("update") is False):
        yield Consequence("+", f"accepts {', '.join(after.accepts)} from clients", key="writable", opens=after.writing)
    if spec.groups:
        yield Consequence("~", f"groups rows by {', '.join(spec.groups)}", key="groups")
    for name, value in spec.where.items():
        yield Consequence("-", f"only rows where {_condition(name, _values(value))}", key="where")
    for name, source in spec.scope.items():
        yield Consequence("-", f"each user is limited to their own rows: {name} is {source}", key="scope")
    for name, related in spec.relate.items():
        yield Consequence("-", f"clients choose for {name} {_related(related)}", key="relate")
    if spec.auto_subscribe:
        text = "subscribes new connections automatically"
        yield Consequence("+", text, key="auto_subscribe", opens=after.reading)
    if spec.serializer != "default":
        yield Consequence("~", f"data is made by {spec.serializer}", key="serializer")
    if spec.outbound and spec.capture == "triggers":
        yield Consequence("+", HEARS_ALL, key="capture")
    if spec.outbound and spec.retention is not None:
        yield Consequence("-", f"keeps values in the log {_kept_for(spec.retention)}", key="retention")
    if spec.outbound and spec.also:
        yield Consequence("+", f"is sent again when {_any_of(spec.also)} changes", key="also", opens=after.reading)


# Two records ----------------------------------------------------------------------------------------------------------


def _compare(before: _Meaning, after: _Meaning) -> Iterator[Consequence]:
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
    yield from _compare_hearing(old, new, after.reading)
    yield from _compare_retention(old, new)
    if old.description != new.description:
        yield Consequence("~", "has another description", key="description")


def _compare_directions(before: _Meaning, after: _Meaning) -> Iterator[Consequence]:
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


def _compare_sent(before: _Meaning, after: _Meaning) -> Iterator[Consequence]:
    # If nothing is sent, bound fields still answer the conditions of writes.
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


def _compare_rules(before: _Meaning, after: _Meaning, action: str) -> Iterator[Consequence]:
    old, new = before.rule(action), after.rule(action)
    is_closed = not (after.spec.outbound if action == "view" else after.spec.inbound)
    if old == new or is_closed:
        return
    was = f"(was: {_who(old)})"
    if new is False:
        text = "no user may subscribe any more" if action == "view" else f"no longer accepts {action}"
        yield Consequence("-", f"{text} {was}", key="permissions")
    elif _is_narrower(old, new):
        yield Consequence("-", f"only {_who(new)} may {DEEDS[action]} {was}", key="permissions")
    else:
        # It is not known who holds one codename but not the other, so another codename counts as wider.
        yield Consequence("+", f"{_who(new)} may {DEEDS[action]} {was}", True, "permissions", frozenset({action}))


def _compare_asking(before: _Meaning, after: _Meaning) -> Iterator[Consequence]:
    """If nothing is sent, the view rule still decides who may put conditions on writes, which disclose values."""
    old, new = before.written_rule("view"), after.written_rule("view")
    if after.spec.outbound or old == new or not after.reading:
        return
    was = f"(was: {_who(old)})"
    if _is_narrower(old, new):
        yield Consequence("-", f"only {_who(new)} may ask for values when they write {was}", key="permissions")
    else:
        text = f"{_who(new)} may ask for values when they write {was}"
        yield Consequence("+", text, True, "permissions", after.reading)


def _is_narrower(old: str | bool, new: str | bool) -> bool:
    return new is False or old is True or (old, new) == (AUTHENTICATED, STAFF)


def _compare_groups(before: _Meaning, after: _Meaning) -> Iterator[Consequence]:
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
        # Nothing new if an old template showed the same rows to clients that knew less, because the additional values
        # were in the rows. A row with a null placeholder is in no group.
        reached = any(other <= columns and columns - other <= before.known for other in old.values())
        opens = frozenset() if reached else after.reading
        yield Consequence("+", f"also groups rows by {text}", not reached, "groups", opens)
    for text, columns in old.items():
        if text not in new and columns not in new.values():
            yield Consequence("-", f"no longer groups rows by {text}", key="groups")


def _compare_where(before: _Meaning, after: _Meaning) -> Iterator[Consequence]:
    old, new, opens = before.spec, after.spec, after.open_actions
    for name in dict.fromkeys((*old.where, *new.where)):
        if name not in new.where:
            text = f"also rows without {_condition(name, _values(old.where[name]))}"
            yield Consequence("+", text, True, "where", opens)
            continue
        # Fewer rows, but a condition over a column that is not sent discloses the value of the column.
        told = frozenset() if after.columns([name]) <= after.known else after.reading
        now = _values(new.where[name])
        if name not in old.where:
            yield Consequence("-", f"only rows where {_condition(name, now)}", key="where", opens=told)
            continue
        was = _values(old.where[name])
        added, gone = [item for item in now if item not in was], [item for item in was if item not in now]
        if added:
            yield Consequence("+", f"also rows where {_condition(name, added)}", True, "where", opens)
        if gone:
            yield Consequence("-", f"no longer rows where {_condition(name, gone)}", key="where", opens=told)


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


def _related(rule: str | Mapping[str, str]) -> str:
    """Return in words which related rows a rule of ``relate`` allows clients to choose."""
    if isinstance(rule, str):
        return "any row"
    return "rows whose " + " and ".join(f"{name} is {source}" for name, source in rule.items())


def _compare_relate(old: BindingSpec, new: BindingSpec, opens: frozenset[str]) -> Iterator[Consequence]:
    for name in dict.fromkeys((*old.relate, *new.relate)):
        was, now = old.relate.get(name, "any"), new.relate.get(name, "any")
        if was == now:
            continue
        text = f"clients choose for {name} {_related(now)} (was: {_related(was)})"
        # More conditions allow fewer rows. Two different rules cannot be compared.
        is_narrower = isinstance(was, str) or (not isinstance(now, str) and was.items() <= now.items())
        yield Consequence("-" if is_narrower else "+", text, not is_narrower, "relate", opens)


def _compare_hearing(old: BindingSpec, new: BindingSpec, opens: frozenset[str]) -> Iterator[Consequence]:
    if not new.outbound:
        return
    was, now = old.capture == "triggers", new.capture == "triggers"
    if was != now:
        # Not wider: the same rows go to the same clients, which a snapshot would have shown anyway.
        yield (
            Consequence("+", HEARS_ALL, key="capture")
            if now
            else Consequence("-", "no longer captures raw SQL and other programs", key="capture")
        )
    added, gone = [path for path in new.also if path not in old.also], [p for p in old.also if p not in new.also]
    if added:
        # Wider, though no further column is sent: a repeated row shows when a row of another model was written, which
        # its readers may not be allowed to view. For a relation to users, that is at each login.
        yield Consequence("+", f"is sent again when {_any_of(added)} changes", True, "also", opens)
    if gone:
        yield Consequence("-", f"is no longer sent again when {_any_of(gone)} changes", key="also")


def _compare_retention(old: BindingSpec, new: BindingSpec) -> Iterator[Consequence]:
    if old.retention == new.retention:
        return
    # Not wider: clients that may resume may take a snapshot as well.
    sign: Literal["+", "-"] = "-" if old.retention is None or (new.retention or 2**31) < old.retention else "+"
    was, now = _kept_for(old.retention), _kept_for(new.retention)
    yield Consequence(sign, f"keeps values in the log {now} (was: {was})", key="retention")


def _kept_for(seconds: int | None) -> str:
    return "as long as the settings say" if seconds is None else f"for {seconds} s"


def _any_of(names: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _who(rule: str | bool) -> str:
    return AUDIENCE_WORDS.get(rule) or f"holders of {rule}"


def _values(value: Any) -> list[str]:
    """Return the values of a condition as JSON, because Python treats 1 and true as equal."""
    return [json.dumps(item) for item in (value if isinstance(value, tuple) else (value,))]


def _condition(name: str, values: Sequence[str]) -> str:
    return f"{name} is {' or '.join(values)}"
