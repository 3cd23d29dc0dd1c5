"""The permissions that an edit of a binding requires. Users cannot open by an edit what they may not do themselves.

:mod:`declbind.console.consequences` determines what an edit opens. This module adds the permission that each opening
requires. Every part of the console that puts a definition in force calls it. An edit that opens nothing requires only
the permission to edit bindings.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from django.db.models import Model

from declbind import record_validation
from declbind.bindings import DJANGO_ACTIONS
from declbind.core.errors import ConfigError, Problem
from declbind.core.spec import ACTIONS, BindingSpec
from declbind.exposure import Exposed, exposed_fields
from declbind.fields import find_model, hold_back, writable_fields
from declbind.models import BindingRecord
from declbind.relations import find_hops
from declbind.rights_models import is_rights_column, is_rights_model

from .consequences import Consequence, consequences
from .plan import Change

EXPOSE_SENSITIVE = "declbind.expose_sensitive"
BIND_RIGHTS_MODELS = "declbind.bind_rights_models"
#: What a user does who opens an action, as a text that follows "may".
DEEDS = {
    "view": "send rows of {model}",
    "create": "let clients create rows of {model}",
    "update": "let clients change rows of {model}",
    "delete": "let clients delete rows of {model}",
}


class PermissionHolder(Protocol):
    """A user who edits bindings."""

    def has_perm(self, codename: str, /) -> bool:
        """Return whether the user has a permission."""


@dataclass(frozen=True)
class Opening:
    """One thing that an edit opens, and the permissions that this requires.

    ``permissions`` are codenames, any of which is enough. If there are none, no user may open it. ``deed`` describes
    the opening as a text that follows "may". ``path`` is its place in the record.
    """

    path: str
    deed: str
    permissions: tuple[str, ...]
    reason: str = ""

    def problem(self) -> Problem:
        """Return the problem for a user without any of the permissions."""
        if not self.permissions:
            return Problem(self.path, f"Nobody may {self.deed} by a binding that is stored in the admin. {self.reason}")
        wanted = " or ".join(map(describe_permission, self.permissions))
        return Problem(
            self.path,
            f"Only users with the permission {wanted} may {self.deed.rstrip(',')}, and you do not have it. Ask a "
            "superuser or another user who has it to make this change, or leave this as it was.",
        )


def missing_permissions(
    user: PermissionHolder,
    old: Mapping[str, object] | None,
    new: Mapping[str, object] | None,
    *,
    as_if_enabled: bool = False,
    held: Collection[str] = (),
    accepted: Collection[str] = (),
) -> list[Problem]:
    """Return what prevents a user from replacing ``old`` with ``new``. An empty document means no record.

    ``held`` and ``accepted`` are those of :func:`~declbind.console.consequences.consequences`. With ``as_if_enabled``,
    a disabled definition is treated as enabled. This is for pages that answer questions about it. Reads the user's
    permissions.
    """
    found = find_openings(old, new, as_if_enabled, held, accepted)
    return [opening.problem() for opening in found if not _holds(user, opening)]


def find_openings(
    old: Mapping[str, object] | None,
    new: Mapping[str, object] | None,
    as_if_enabled: bool = False,
    held: Collection[str] = (),
    accepted: Collection[str] = (),
) -> list[Opening]:
    """Return everything that an edit opens. Makes no query.

    An edit that cannot be read opens nothing here, because the validation rejects it.
    """
    if new and as_if_enabled:
        new = {**new, "enabled": True}
    after = _read(new, [name for name in held if name not in accepted])
    if after is None:
        return []
    found = _consequences(old, new or {}, held, accepted)
    opened = frozenset[str]().union(*(item.opens for item in found)) & after.open_actions
    return list(dict.fromkeys(_openings(_read(old, held), after, opened)))


def describe_change(change: Change) -> Sequence[Consequence]:
    """Return what a change of a plan does, in the words of the import page. Checks no permission."""
    return consequences(
        change.before,
        change.after,
        in_force=change.stream not in record_validation.reserved_streams(),
        held=change.held,
    )


def _consequences(
    old: Mapping[str, object] | None,
    new: Mapping[str, object],
    held: Collection[str] = (),
    accepted: Collection[str] = (),
) -> Sequence[Consequence]:
    in_force = not old or old.get("stream") not in record_validation.reserved_streams()
    return consequences(old or None, new, in_force=in_force, held=held, accepted=accepted)


def describe_permission(codename: str) -> str:
    """Return the admin's name of a permission, with its codename."""
    return f'"{_name_of(codename)}" ({codename})'


@dataclass(frozen=True)
class _Definition:
    spec: BindingSpec
    model: type[Model]
    exposed: Sequence[Exposed]
    open_actions: frozenset[str]

    @property
    def label(self) -> str:
        return str(self.model._meta.label)

    def codename(self, action: str, model: type[Model] | None = None) -> str:
        options = (model or self.model)._meta
        return f"{options.app_label}.{DJANGO_ACTIONS[action]}_{options.model_name}"


def _read(document: Mapping[str, object] | None, held: Collection[str]) -> _Definition | None:
    # Other problems are ignored here, because the validation always runs as well.
    if not document:
        return None
    try:
        spec = BindingSpec.from_dict(document)
    except ConfigError:
        return None
    model = find_model(spec.model)
    if model is None:
        return None
    if not spec.grow:
        spec = hold_back(model, spec, held)
    closed = {"view"} if not spec.outbound else set() if spec.inbound else set(ACTIONS[1:])
    actions = {action for action in ACTIONS if spec.permissions.get(action) is not False} - closed
    return _Definition(spec, model, exposed_fields(model, spec), frozenset(actions))


def _openings(before: _Definition | None, after: _Definition, opened: frozenset[str]) -> Iterator[Opening]:
    known = set() if before is None or before.model is not after.model else _places(before)
    # Newly exposed fields count even if the definition is disabled or narrows the rows.
    newly_exposed = after.exposed if opened else [item for item in after.exposed if (item.key, item.field) not in known]
    yield from _withheld(after, newly_exposed)
    for item in newly_exposed:
        if item.is_sensitive and not item.withheld:
            yield Opening(item.path, f"{_exposing(after, item)}, which looks like a secret,", (EXPOSE_SENSITIVE,))
    yield from _own_keys(before, after)
    if not opened:
        return
    for action in ACTIONS:
        if action in opened:
            yield Opening(_path(after.spec, action), _deed(after, action), (after.codename(action),))
    yield from _asking(after, opened)
    yield from _permission_givers(after, opened)
    yield from _relations(after, opened)


def _own_keys(before: _Definition | None, after: _Definition) -> Iterator[Opening]:
    """Yield a serializer's additional keys that a definition newly exposes."""
    known = {field.name for field in after.model._meta.get_fields()}
    same = before is not None and before.spec.serializer == after.spec.serializer
    was = before.spec.sensitive if before is not None and same else ()
    for index, name in enumerate(after.spec.sensitive):
        if name not in known and name not in was:
            deed = f"expose {name!r} of the serializer {after.spec.serializer!r}, which looks like a secret,"
            yield Opening(f"$.sensitive[{index}]", deed, (EXPOSE_SENSITIVE,))


def _asking(after: _Definition, opened: frozenset[str]) -> Iterator[Opening]:
    """Yield what clients can learn about values by writing, if nothing is sent."""
    if after.spec.outbound or not opened & {"update", "delete"}:
        return
    rule = after.spec.permissions.get("view")
    if rule not in (None, False, after.codename("view")) and any(item.key == "fields" for item in after.exposed):
        deed = f"let clients that write rows of {after.label} ask for their values"
        yield Opening("$.permissions.view", deed, (after.codename("view"),))
    if "delete" in opened and after.spec.where:
        # As in Django's admin, users who may change rows may see them.
        deed = f"let clients that delete rows of {after.label} find out which ones meet its conditions"
        yield Opening("$.where", deed, (after.codename("view"), after.codename("update")))


def _withheld(after: _Definition, newly_exposed: Sequence[Exposed]) -> Iterator[Opening]:
    if after.model._meta.app_label == "declbind":
        yield Opening("$.model", f"bind {after.label}", (), "It is a model of declbind.")
        return
    for item in newly_exposed:
        if item.withheld:
            fix = "Bind another model." if item.key == "model" else f"Remove {item.name!r} from '{item.key}'."
            reason = f"It holds {item.withheld}. {fix}"
            yield Opening(item.path, _exposing(after, item), (), reason)


def _permission_givers(after: _Definition, opened: frozenset[str]) -> Iterator[Opening]:
    """Yield the models and columns that grant or record permissions."""
    if is_rights_model(after.model):
        deed = f"bind {after.label}, whose rows give or record permissions,"
        yield Opening("$.model", deed, (BIND_RIGHTS_MODELS,))
        return
    for item in after.exposed:
        if item.gives_rights:
            yield Opening(item.path, f"{_exposing(after, item)}, which gives permissions,", (BIND_RIGHTS_MODELS,))
    if opened & {"create", "update"}:
        for field in writable_fields(after.model, after.spec):
            if is_rights_column(field):
                deed = f"let clients write {field.name!r} of {after.label}, which gives permissions,"
                yield Opening("$.writable", deed, (BIND_RIGHTS_MODELS,))


def _relations(after: _Definition, opened: frozenset[str]) -> Iterator[Opening]:
    if "view" not in opened:
        return
    for index, name in enumerate(after.spec.also):
        path = f"$.also[{index}]"
        try:
            hops = find_hops(after.model, name)
        except LookupError:
            continue  # The validation reports it.
        for model in dict.fromkeys(hop.model for hop in hops if not hop.model._meta.auto_created):
            label = model._meta.label
            if model._meta.app_label == "declbind":
                yield Opening(path, f"disclose when rows of {label} change", (), "It is a model of declbind.")
                continue
            deed = f"disclose by {name!r} when rows of {label} change"
            yield Opening(path, deed, (after.codename("view", model),))
            if is_rights_model(model):
                yield Opening(path, f"{deed}, which give or record permissions,", (BIND_RIGHTS_MODELS,))


def _places(definition: _Definition) -> set[tuple[str, object]]:
    return {(item.key, item.field) for item in definition.exposed}


def _exposing(after: _Definition, item: Exposed) -> str:
    place = {"fields": "", "model": " as the key of rows"}.get(item.key, f" by {item.key!r}")
    return f"expose {item.name!r} of {after.label}{place}"


def _path(spec: BindingSpec, action: str) -> str:
    return f"$.permissions.{action}" if action in spec.permissions else "$.permissions"


def _deed(after: _Definition, action: str) -> str:
    return DEEDS[action].format(model=after.label)


def _holds(user: PermissionHolder, opening: Opening) -> bool:
    return any(user.has_perm(codename) for codename in opening.permissions)


def _name_of(codename: str) -> str:
    own = {f"declbind.{name}": text for name, text in BindingRecord._meta.permissions}
    if codename in own:
        return str(own[codename])
    app_label, _, name = codename.partition(".")
    action, _, model_name = name.partition("_")
    model = find_model(f"{app_label}.{model_name}")
    return f"Can {action} {model._meta.verbose_name_raw}" if model is not None else name
