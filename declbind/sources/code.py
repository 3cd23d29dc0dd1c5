"""The bindings that projects write as classes, in a ``bindings`` module of an installed app or in any other module.

Every process imports the ``bindings`` modules. A class of another module is known to the processes that import it.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from functools import reduce
from types import ModuleType
from weakref import WeakKeyDictionary, WeakSet

from django.apps import apps
from django.utils.module_loading import module_has_submodule

from declbind import record_validation, signals
from declbind.bindings import Binding
from declbind.core.errors import ConfigError, Problem

from . import SourceItem

#: The number of seconds that a class may take after its definition to appear in its module.
IMPORT_SECONDS = 60.0

BindingClass = type[Binding]

#: The classes that were defined since the last ``load_code``, with the time of their definition.
_defined: WeakKeyDictionary[BindingClass, float] = WeakKeyDictionary()
#: The classes that code has put in force itself, as tests do.
_given: WeakSet[BindingClass] = WeakSet()
_lock = threading.Lock()


def _free_lock() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # A thread of the parent, which does not exist in the child, may hold the lock.
    os.register_at_fork(after_in_child=_free_lock)


def load_code() -> list[SourceItem]:
    """Return one item for each concrete binding class. Imports the ``bindings`` modules of the installed apps.

    Classes are found by the names of modules. A class that a reload has replaced is therefore no longer bound, and a
    class that two modules import counts once. A subclass with the stream of its parent replaces the parent.
    """
    classes = dict.fromkeys([*_autodiscovered(), *find_scattered()])
    with _lock:
        for cls in classes:
            _defined.pop(cls, None)
    refined = {base for cls in classes for base in cls.__mro__[1:] if base in classes and base.stream == cls.stream}
    return [validate_class(cls) for cls in classes if cls not in refined]


def validate_class(cls: BindingClass) -> SourceItem:
    """Return the item of one binding class, with the problems that validation found."""
    where = name_of(cls)
    stream = str(cls.stream)
    try:
        spec = cls.spec()
    except (ConfigError, TypeError, ValueError) as error:
        found = error.problems if isinstance(error, ConfigError) else (Problem("$", f"{where}: {error}"),)
        return SourceItem(stream=stream, spec=None, problems=tuple(found), source="code", where=where)
    validated, problems = record_validation.validate_document(spec.to_dict(), python=True)
    return SourceItem(stream=stream, spec=validated, problems=tuple(problems), source="code", where=where, binding=cls)


def find_scattered() -> list[BindingClass]:
    """Return the concrete classes outside the ``bindings`` modules of the installed apps."""
    known = set(_autodiscovered())
    return _held_by_modules([cls for cls in _project_classes() if cls.is_concrete() and cls not in known])


def find_unbound() -> Iterator[tuple[BindingClass, str]]:
    """Yield the classes that look like bindings but cannot be in any registry, each with the reason."""
    lost = [cls for cls in _project_classes() if _is_lost(cls)]
    if lost:
        # An unreferenced class stays among the subclasses of its base until it is garbage-collected.
        lost.clear()
        gc.collect()
    for cls in _project_classes():
        if _is_lost(cls):
            yield cls, "it is defined inside a function, and no module has it"
        elif not cls.is_concrete() and not cls.__subclasses__() and is_in_module(cls):
            if cls.model is not None:
                yield cls, "it has a model and no stream"
            elif cls.stream is not None:
                yield cls, "it has a stream and no model"


def has_new_classes() -> bool:
    """Return whether a concrete class was defined since the last ``load_code`` and is in its module by now."""
    if not _defined:
        return False
    now = time.monotonic()
    with _lock:
        for cls, defined_at in list(_defined.items()):
            if now - defined_at > IMPORT_SECONDS:
                del _defined[cls]
        waiting = list(_defined)
    return bool(_held_by_modules(waiting))


def note_given(cls: BindingClass) -> None:
    """Record that code has put a class in force itself, so that it is not reported as unbound."""
    _given.add(cls)


def name_of(cls: BindingClass) -> str:
    """Return the dotted path of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def is_in_module(cls: BindingClass) -> bool:
    """Return whether an imported module has the class, under any name. Test modules do not count."""
    return bool(_held_by_modules([cls]))


def is_test_module(module: str) -> bool:
    """Return whether a module is a test module by its name. Tests put their classes in force themselves."""
    name = module.rpartition(".")[2]
    return name in ("tests", "conftest") or name.startswith("test_") or name.endswith("_test")


def install() -> None:
    """Start to collect new classes, such as those of modules that ``asgi.py`` imports."""
    signals.binding_defined.connect(_on_definition, dispatch_uid="declbind.sources.code")


def _on_definition(sender: BindingClass, **kwargs: object) -> None:
    if _is_of_project(sender) and sender.is_concrete():
        with _lock:
            _defined[sender] = time.monotonic()


def _autodiscovered() -> Iterator[BindingClass]:
    for module in _modules():
        for value in list(vars(module).values()):
            if isinstance(value, type) and issubclass(value, Binding) and value.is_concrete():
                yield value


def _modules() -> Iterator[ModuleType]:
    for config in apps.get_app_configs():
        if config.module is not None and module_has_submodule(config.module, "bindings"):
            module = importlib.import_module(f"{config.name}.bindings")
            if config.name != "declbind":
                yield module


def _project_classes(base: BindingClass = Binding) -> Iterator[BindingClass]:
    """Yield the subclasses that belong to the project, except those built from records, in the order of definition."""
    seen: dict[BindingClass, None] = {}
    waiting = [base]
    while waiting:
        for cls in waiting.pop(0).__subclasses__():
            if cls not in seen:
                seen[cls] = None
                waiting.append(cls)
    return (cls for cls in seen if _is_of_project(cls))


def _is_of_project(cls: BindingClass) -> bool:
    return not _is_inside(cls.__module__, ("declbind",))


def _is_lost(cls: BindingClass) -> bool:
    return (
        cls.is_concrete()
        and "<locals>" in cls.__qualname__
        and cls.__module__ in sys.modules
        and not is_test_module(cls.__module__)
        and cls not in _given
        and not is_in_module(cls)
    )


def _is_inside(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _held_by_modules(classes: Sequence[BindingClass]) -> list[BindingClass]:
    """Return those of the classes that an imported module has, in their order. Reads each module at most once."""
    held = {cls for cls in classes if _is_held_by_its_own(cls)}
    # A class that a function makes is in the module that called the function.
    made = {id(cls): cls for cls in classes if cls not in held and "<locals>" in cls.__qualname__}
    if made:
        modules = [module for name, module in list(sys.modules.items()) if not is_test_module(name)]
        held.update(made[id(value)] for module in modules for value in _values_of(module) if id(value) in made)
    return [cls for cls in classes if cls in held]


def _is_held_by_its_own(cls: BindingClass) -> bool:
    own = None if is_test_module(cls.__module__) else sys.modules.get(cls.__module__)
    if own is None:
        return False
    return _follow(own, cls.__qualname__) is cls or any(value is cls for value in _values_of(own))


def _follow(module: ModuleType, path: str) -> object:
    try:
        return reduce(getattr, path.split("."), module)
    except AttributeError:
        return None


def _values_of(module: object) -> list[object]:
    # ``sys.modules`` may hold objects of any kind.
    return list(getattr(module, "__dict__", {}).values())
