"""The digest of the code that a process runs, as far as its events depend on it.

The version of the configuration counts edits of the database. Files, classes and models come with a deployment, and a
process that was not restarted keeps the old ones. Events carry the digest of the process that made them, so that such a
process can be named.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from types import CodeType
from weakref import WeakKeyDictionary

from django.apps import apps

from declbind.binding_keys import BindingKeys
from declbind.bindings import Binding
from declbind.core.frames import encode
from declbind.registry_entries import BindingRegistry

_digests: WeakKeyDictionary[BindingRegistry, str] = WeakKeyDictionary()


def digest_code(registry: BindingRegistry) -> str:
    """Return 16 hexadecimal digits, equal in two processes with the same models, files and binding classes.

    Records of the database do not count. The digest is computed once for each registry. It depends on the version of
    Python if a binding class has methods of its own.
    """
    found = _digests.get(registry)
    if found is None:
        bindings = (
            f"{entry.stream}={_describe(entry.binding)}"
            for entry in registry.entries
            if entry.source != "database" and entry.binding is not None
        )
        lines = (*sorted(bindings), *_columns())
        found = _digests[registry] = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    return found


def _describe(binding: type[Binding]) -> str:
    own = ";".join(_methods(binding))
    return f"{binding.__module__}.{binding.__qualname__} {encode(binding.spec().to_dict())} {own}"


def _methods(binding: type[Binding]) -> Iterator[str]:
    """Yield the methods that the project has written for a binding, as text."""
    for base in binding.__mro__:
        if not issubclass(base, BindingKeys) or base.__module__.startswith("declbind."):
            continue
        for name, value in sorted(vars(base).items()):
            code = getattr(getattr(value, "__func__", value), "__code__", None)
            if isinstance(code, CodeType):
                yield f"{base.__qualname__}.{name} {_text_of(code)}"


def _text_of(code: CodeType) -> str:
    constants = (_text_of(value) if isinstance(value, CodeType) else _constant(value) for value in code.co_consts)
    return f"{code.co_code.hex()} {code.co_names} [{', '.join(constants)}]"


def _constant(value: object) -> str:
    # The order of a set differs between processes.
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)


@functools.cache
def _columns() -> tuple[str, ...]:
    """Return all columns of all models, as text."""
    return tuple(
        sorted(
            f"{model._meta.label}.{field.name} {field.column} {field.get_internal_type()} {field.null}"
            for model in apps.get_models(include_auto_created=True)
            for field in model._meta.local_concrete_fields
        )
    )
