"""The making of binding classes, from records and from classes of the project."""

from __future__ import annotations

from dataclasses import replace

from declbind.bindings import Binding, WebsocketBinding
from declbind.core.spec import KEYS, BindingSpec
from declbind.fields import find_model, held_fields


def build_binding(spec: BindingSpec) -> type[WebsocketBinding]:
    """Return a new subclass for ``spec``, named after the stream. It is not registered anywhere."""
    attributes: dict[str, object] = {key: getattr(spec, key) for key in KEYS} | {"known": spec.known}
    attributes["__module__"] = Binding.__module__
    attributes["__doc__"] = spec.description or f"The binding of stream {spec.stream!r}."
    attributes["spec"] = classmethod(lambda cls: spec)
    name = "".join(part.capitalize() for part in spec.stream.replace(".", "-").replace("_", "-").split("-"))
    return type(f"{name}Binding", (WebsocketBinding,), attributes)


def limit_binding(cls: type[Binding], known: frozenset[str] | None) -> type[Binding]:
    """Return a subclass that sends only the ``known`` ones of the fields of ``"__all__"`` or ``exclude``.

    Args:
        cls: The class to limit.
        known: The names of the fields that may be sent. ``None`` means all fields.

    Returns:
        A subclass, or ``cls`` itself if it sends no other field.
    """
    if known is None or known == cls.known:
        return cls
    spec = replace(cls.spec(), known=known)
    model = find_model(spec.model)
    if model is not None and not held_fields(model, spec):
        return cls
    last: type[Binding] | None = cls.__dict__.get("_limited")
    if last is None or last.known != known:
        # The module marks the class as declbind's own: searches for classes of the project skip it.
        attributes = {
            "__module__": Binding.__module__,
            "__doc__": cls.__doc__,
            "__qualname__": cls.__qualname__,
            "known": known,
        }
        last = type(cls.__name__, (cls,), attributes)
        cls._limited = last  # type: ignore[attr-defined]  # set on each class by itself, so none inherits it
    return last
