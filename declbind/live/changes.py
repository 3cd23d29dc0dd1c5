"""The effect of an edited binding on events, subscriptions and replays in progress."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from declbind.bindings import Binding
from declbind.conf import settings
from declbind.core import frames
from declbind.core.errors import ClientError
from declbind.core.hub import LogEvent, Subscription
from declbind.core.spec import BindingSpec
from declbind.models import Event
from declbind.registry import BindingRegistry
from declbind.serializers import encode_value

Definition = Mapping[str, Any] | None

#: Keys of a record that determine a row's groups or how its data is computed.
_PLACING = ("model", "groups", "where", "scope", "serializer")


def grace() -> timedelta:
    """Return how long after an edit a writer may still use the previous configuration."""
    return timedelta(seconds=2 * settings.VERSION_CHECK_SECONDS)


def payload(registry: BindingRegistry, event: LogEvent, action: str) -> str | None:
    """Return the payload of an event as JSON text, for one action and under one registry; ``None`` if it is not sent.

    Fields that the binding no longer sends are left out.
    """
    binding = registry.by_stream.get(event.stream)
    if binding is None or not binding.spec().outbound:
        return None
    if event.kind == Event.BULK:
        return frames.encode_resync_payload("bulk")
    if event.kind == Event.EXPIRED:
        return frames.encode_resync_payload("expired")
    data = event.data
    if event.kind == Event.PAYLOAD:
        made = json.loads(data)
        if action in made:
            return frames.encode(made[action]) if made[action] else None
        data = "{}"
    elif action == "delete" and event.kind != Event.GONE:
        data = "{}"
    elif event.version != registry.version and not binding.overrides("serialize_data"):
        stored: dict[str, object] = json.loads(data)
        sent = {name: value for name, value in stored.items() if _is_sent(binding, name)}
        if len(sent) < len(stored):
            data = encode_value(sent)
    return frames.encode_payload(action, event.object_pk, data, event.model)


def _is_sent(binding: type[Binding], name: str) -> bool:
    if name in binding.send_members or any(name == field.name for field in binding.bound_fields()):
        return True
    # A serializer may send additional names, but no model field that is not bound.
    return binding.serializer != "default" and name not in {field.name for field in binding.model_class()._meta.fields}


def end_of(subscription: Subscription, registry: BindingRegistry) -> str | None:
    """Return the reason why a subscription ends under a new registry, or ``None`` if it continues."""
    binding = registry.by_stream.get(subscription.stream)
    if binding is None:
        entry = registry.entry(subscription.stream)
        return "removed" if entry is None else "disabled"
    if not binding.spec().outbound:
        return "disabled"
    if subscription.params is None or binding.overrides("group_names", "subscription_group"):
        return None
    try:
        group = binding().subscription_group(None, subscription.params)
    except ClientError:
        return "changed"
    return None if group == subscription.group else "changed"


def shows_more(old: Definition, new: Definition) -> bool:
    """Return whether clients may lack rows or fields after an edit.

    This is true if the binding was added, enabled or widened, or if its groups changed. Events from before such an edit
    must not be delivered after it, because their groups follow the old rules or they lack fields that are now sent.
    """
    before, after = _in_force(old), _in_force(new)
    if after is None:
        return False
    if before is None or any(getattr(before, key) != getattr(after, key) for key in _PLACING):
        return True
    if not set(after.also) <= set(before.also):
        return True
    return _chosen(before) != _chosen(after) and not (
        before.fields is not None
        and after.fields is not None
        and not after.all_fields
        and not before.all_fields
        and set(after.fields) <= set(before.fields)
    )


def _chosen(spec: BindingSpec) -> tuple[object, ...]:
    return spec.fields, spec.exclude, spec.sensitive, spec.grow, spec.known


def breaks_replay(old: Definition, new: Definition) -> bool:
    """Return whether a client that resumes from before the edit must take a snapshot. This includes disabling."""
    return shows_more(old, new) or (_in_force(old) is not None and _in_force(new) is None)


def moves_view(old: Definition, new: Definition) -> bool:
    """Return whether an edit changes which users may view the stream, if the binding was and stays in force."""
    before, after = _in_force(old), _in_force(new)
    return before is not None and after is not None and before.permissions.get("view") != after.permissions.get("view")


def _in_force(definition: Definition) -> BindingSpec | None:
    if definition is None:
        return None
    spec = BindingSpec(**definition)
    return spec if spec.enabled and spec.outbound else None
