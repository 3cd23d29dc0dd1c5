"""Say what an edit of a binding record means, in plain words, and whether it opens anything.

The second answer is safe rather than exact. An edit is said to widen unless it is certain that nobody can get or write
more than before: rules, conditions and serializers that cannot be compared count as wider.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from declbind import judgement
from declbind.bindings import DJANGO_ACTIONS
from declbind.core.spec import ACTIONS, AUTHENTICATED, STAFF, BindingSpec
from declbind.core.wording import AUDIENCE_WORDS
from declbind.fields import bound_fields, concrete_field, find_model, hold_back, writable_fields

#: What a user does by each action, as it stands behind "may".
DEEDS = {"view": "subscribe", "create": "create rows", "update": "change rows", "delete": "delete rows"}

HEARS_ALL = "also hears raw SQL and other programs, once its triggers are installed"


@dataclass(frozen=True)
class Consequence:
    """One thing that an edit changes: "+" comes, "-" goes, "~" is another; ``key`` is the record's key behind it.

    ``opens`` are the actions that it lets somebody do who could not, or could do less. What ``widens`` wants a second
    look. A first record that lets holders of a permission in opens without widening.
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
    """Return what changes for clients when record ``old`` becomes ``new``; None is no record. Makes no query.

    ``held`` are the fields that ``old`` does not send before somebody accepts them (``BindingRecord.held``). The edit
    accepts those in ``accepted``; ``new`` sends others of them only if it names them.

    Never raises, whatever the records hold. Pass ``in_force=False`` where the old record was out of force for a reason
    that it does not tell itself, such as a stream that a file took meanwhile. A first record widens only where anyone
    may do something, all fields are sent, or sensitive ones are.
    """
    if new is None:
        return (Consequence("-", "is removed; to clients the stream no longer exists"),)
    before = _read(old, held)
    after = _read(new, [name for name in held if name not in accepted])
    if after is None:
        return (Consequence("~", "cannot be read as it is", widens=True, opens=frozenset(ACTIONS)),)
    if old is None:
        off = "" if after.spec.enabled else ", switched off"
        first = Consequence("+", f"is a new binding of {after.label}{off}", key="model")
        return (first, *_close_unless(after.spec.enabled, _describe(after)))
    if not after.spec.enabled:
        found = list(_compare(before, after)) if before is not None else []
        if before is None or before.spec.enabled:
            found.insert(0, Consequence("-", "is switched off; to clients the stream does not exist", key="enabled"))
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


# What a record comes to -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Meaning:
    """A record as its model makes it out; ``problems`` tells whether it is out of force."""

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
        """Whether fields that the model gets later go out too."""
        return self.spec.grows

    @property
    def accepts(self) -> tuple[str, ...]:
        return tuple(field.name for field in writable_fields(self.model, self.spec)) if self.spec.inbound else ()

    @property
    def accepts_later(self) -> bool:
        """Whether clients may write fields that the model gets later."""
        return self.spec.inbound and self.is_open and self.spec.writable is None

    @property
    def known(self) -> set[str]:
        """The columns whose values a reader of a row gets."""
        return {getattr(field, "attname", field.name) for field in bound_fields(self.model, self.spec)} | {
            self.model._meta.pk.attname
        }

    def rule(self, action: str) -> str | bool:
        """Return who may: False where the direction is closed, Django's own codename where the record is silent."""
        is_closed = not (self.spec.outbound if action == "view" else self.spec.inbound)
        return False if is_closed else self.written_rule(action)

    def written_rule(self, action: str) -> str | bool:
        """Return the rule of the record, whatever its direction: that to view counts for conditions of writes too."""
        rule: str | bool | None = self.spec.permissions.get(action)
        options = self.model._meta
        return f"{options.app_label}.{DJANGO_ACTIONS[action]}_{options.model_name}" if rule is None else rule

    @property
    def open_actions(self) -> frozenset[str]:
        """The actions that the record lets somebody do."""
        return frozenset(action for action in ACTIONS if self.rule(action) is not False)

    @property
    def reading(self) -> frozenset[str]:
        """The actions by which clients learn of values: those who may write can ask for them with ``if``."""
        return self.open_actions & ({"view"} if self.spec.outbound else {"update", "delete"})

    @property
    def writing(self) -> frozenset[str]:
        """The actions by which clients set values."""
        return self.open_actions & {"create", "update"}

    def columns(self, names: Iterable[str]) -> frozenset[str]:
        """Return the columns behind a template's placeholders, which may be called in two ways."""
        return frozenset(self._column(name) for name in names)

    def _column(self, name: str) -> str:
        try:
            return concrete_field(self.model, name).attname
        except LookupError:
            return name


def _read(document: Mapping[str, Any] | None, held: Collection[str]) -> _Meaning | None:
    spec, problems = judgement.judge_document(document)
    model = find_model(spec.model) if spec is not None else None
    if spec is None or model is None:
        return None
    return _Meaning(hold_back(model, spec, held) if not spec.grow else spec, model, bool(problems))


def _close_unless(is_open: bool, found: Iterable[Consequence]) -> tuple[Consequence, ...]:
    return tuple(item if is_open else replace(item, widens=False, opens=frozenset()) for item in found)


def _say_the_same(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Consequence, ...]:
    if json.dumps(old, sort_keys=True, default=str) == json.dumps(new, sort_keys=True, default=str):
        return ()
    return (Consequence("~", "means the same, written in another way"),)


# One record, whole ----------------------------------------------------------------------------------------------------


def _describe(after: _Meaning) -> Iterator[Consequence]:
    """Say all that a record opens; what widens is what a first record needs a second look for."""
    spec = after.spec
    if spec.outbound:
        text = ", ".join(after.sends) or "no field, only that a row changed and its key"
        later = ", and the fields that the model gets later" if after.is_open else ""
        yield Consequence("+", f"sends {text}{later}", spec.is_open, "fields", after.reading)
    elif after.is_open:
        yield Consequence("+", "binds all fields, also those that the model gets later", True, "fields", after.reading)
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
        yield Consequence("-", f"each user deals with own rows only: {name} is {source}", key="scope")
    for name, related in spec.relate.items():
        yield Consequence("-", f"clients choose for {name} {_related(related)}", key="relate")
    if spec.auto_subscribe:
        text = "subscribes connections by itself when they open"
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
        yield Consequence("~", f"is called {new.stream} now; clients of {old.stream} are cut off", key="stream")
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
            text = "also accepts editable fields that the model gets later"
            yield Consequence("+", text, True, "writable", after.writing)
    yield from _compare_groups(before, after)
    yield from _compare_where(before, after)
    yield from _compare_scope(old, new, after.open_actions)
    yield from _compare_relate(old, new, after.writing)
    if old.auto_subscribe != new.auto_subscribe:
        yield (
            Consequence("+", "subscribes connections by itself when they open", True, "auto_subscribe", after.reading)
            if new.auto_subscribe
            else Consequence("-", "no longer subscribes connections by itself", key="auto_subscribe")
        )
    if old.serializer != new.serializer:
        # What either of them puts into the data is their code's business.
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
        (old.inbound, new.inbound, "takes changes from clients", "no longer takes changes from clients", ACTIONS[1:]),
    ):
        if was != now:
            opens = after.open_actions.intersection(actions) if now else frozenset[str]()
            yield Consequence("+" if now else "-", opened if now else closed, now, "direction", opens)


def _compare_sent(before: _Meaning, after: _Meaning) -> Iterator[Consequence]:
    # Where nothing is sent a bound field still answers the conditions that clients put on their writes.
    verb = "sends" if after.spec.outbound else "binds"
    yield from _compare_names(verb, before.sends, after.sends, "fields", after.reading)
    if after.is_open and not before.is_open:
        yield Consequence("+", f"also {verb} fields that the model gets later", True, "grow", after.reading)
    elif before.is_open and not after.is_open:
        yield Consequence("-", f"no longer {verb} fields that the model gets later", key="grow")
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
        text = "nobody may subscribe any more" if action == "view" else f"no longer accepts {action}"
        yield Consequence("-", f"{text} {was}", key="permissions")
    elif _is_narrower(old, new):
        yield Consequence("-", f"only {_who(new)} may {DEEDS[action]} {was}", key="permissions")
    else:
        # Who holds one codename and not the other cannot be told, so another one is a wider one.
        yield Consequence("+", f"{_who(new)} may {DEEDS[action]} {was}", True, "permissions", frozenset({action}))


def _compare_asking(before: _Meaning, after: _Meaning) -> Iterator[Consequence]:
    """Where nothing is sent, the rule to view still says who may put conditions on writes, which tells values."""
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
        # Nothing new where some old template showed the same rows to who knew less: what is to be known beyond that
        # was in the rows themselves. A row of which a placeholder is null is in no group.
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
        # Fewer rows, and yet a condition over a column that is not sent tells what the column holds.
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
            text = f"users are no longer kept to own rows by {name} (was: {was})"
            yield Consequence("+", text, True, "scope", opens)
        elif was is None:
            yield Consequence("-", f"each user deals with own rows only: {name} is {now}", key="scope")
        else:
            text = f"own rows are those whose {name} is {now} (was: {was})"
            yield Consequence("~", text, True, "scope", opens)


def _related(rule: str | Mapping[str, str]) -> str:
    """Return which related rows a rule of ``relate`` lets clients choose, in words."""
    if isinstance(rule, str):
        return "any row"
    return "rows whose " + " and ".join(f"{name} is {source}" for name, source in rule.items())


def _compare_relate(old: BindingSpec, new: BindingSpec, opens: frozenset[str]) -> Iterator[Consequence]:
    for name in dict.fromkeys((*old.relate, *new.relate)):
        was, now = old.relate.get(name, "any"), new.relate.get(name, "any")
        if was == now:
            continue
        text = f"clients choose for {name} {_related(now)} (was: {_related(was)})"
        # More conditions choose among fewer rows; of two others it cannot be told which one opens more.
        is_narrower = isinstance(was, str) or (not isinstance(now, str) and was.items() <= now.items())
        yield Consequence("-" if is_narrower else "+", text, not is_narrower, "relate", opens)


def _compare_hearing(old: BindingSpec, new: BindingSpec, opens: frozenset[str]) -> Iterator[Consequence]:
    if not new.outbound:
        return
    was, now = old.capture == "triggers", new.capture == "triggers"
    if was != now:
        # No wider: of the same rows, to those who may see them, and what a snapshot would have shown them anyway.
        yield (
            Consequence("+", HEARS_ALL, key="capture")
            if now
            else Consequence("-", "no longer hears raw SQL and other programs", key="capture")
        )
    added, gone = [path for path in new.also if path not in old.also], [p for p in old.also if p not in new.also]
    if added:
        # Wider, though no column more is sent: that a row comes again tells when one of another model was written,
        # which its readers need not be allowed to view. With a relation to users: each time that one of them logs in.
        yield Consequence("+", f"is sent again when {_any_of(added)} changes", True, "also", opens)
    if gone:
        yield Consequence("-", f"is no longer sent again when {_any_of(gone)} changes", key="also")


def _compare_retention(old: BindingSpec, new: BindingSpec) -> Iterator[Consequence]:
    if old.retention == new.retention:
        return
    # No wider: whoever may resume may take a snapshot as well.
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
    """Return the values of a condition as JSON: Python would take 1 for true."""
    return [json.dumps(item) for item in (value if isinstance(value, tuple) else (value,))]


def _condition(name: str, values: Sequence[str]) -> str:
    return f"{name} is {' or '.join(values)}"
