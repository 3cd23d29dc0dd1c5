"""Find the bindings that projects write in Python: the ``bindings.py`` of each installed app."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import ModuleType

from django.apps import apps
from django.utils.module_loading import module_has_submodule

from declbind import judgement
from declbind.bindings import Binding
from declbind.core.errors import ConfigError, Problem

from . import SourceItem


def load_code() -> list[SourceItem]:
    """Return one item per concrete binding class found in a ``bindings`` module; imports those modules.

    Found by looking at the modules' names, so a class that is no longer there is no longer bound, and a class that is
    imported in two modules counts once. A subclass that keeps its parent's stream takes the parent's place.
    """
    classes: dict[type[Binding], None] = {}
    for module in _modules():
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Binding) and value.is_concrete():
                classes[value] = None
    refined = {base for cls in classes for base in cls.__mro__[1:] if base in classes and base.stream == cls.stream}
    return [judge_class(cls) for cls in classes if cls not in refined]


def judge_class(cls: type[Binding]) -> SourceItem:
    """Return the item of one binding class, with what both judgements find."""
    where = f"{cls.__module__}.{cls.__qualname__}"
    stream = str(cls.stream)
    try:
        spec = cls.spec()
    except (ConfigError, TypeError, ValueError) as error:
        found = error.problems if isinstance(error, ConfigError) else (Problem("$", f"{where}: {error}"),)
        return SourceItem(stream=stream, spec=None, problems=tuple(found), source="code", where=where)
    judged, problems = judgement.judge_document(spec.to_dict(), python=True)
    return SourceItem(stream=stream, spec=judged, problems=tuple(problems), source="code", where=where, binding=cls)


def _modules() -> Iterator[ModuleType]:
    for config in apps.get_app_configs():
        if config.module is not None and module_has_submodule(config.module, "bindings"):
            module = importlib.import_module(f"{config.name}.bindings")
            if config.name != "declbind":
                yield module
