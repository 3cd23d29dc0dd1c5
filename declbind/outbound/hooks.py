"""Hooks: the wrappers around Django's methods, their arguments, and the check whether they are still called.

A hook is recognised by an attribute of its own. ``__wrapped__`` is not reliable, because other packages wrap the same
methods.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from declbind.django_types import Method

from .seam_checks import Seam, SeamFault
from .seams import NEEDED, find_name_faults

logger = logging.getLogger("declbind")

#: The attribute that marks a hook. It holds the hook's code object, because ``functools.wraps`` copies the attribute to
#: wrappers, which have other code.
MARK = "_declbind_hook"
#: The maximum number of objects that are searched for a hook behind another package's function.
MAX_EXAMINED = 1000
#: The hooks that were called with unknown arguments.
_unread: dict[Seam, None] = {}


class Arguments:
    """The arguments of a call, read by name and passed on as they were given.

    Arguments that ``seam`` does not know are passed on too.
    """

    __slots__ = ("_parameters", "args", "kwargs", "named")

    def __init__(self, seam: Seam, args: Sequence[object], kwargs: Mapping[str, object]) -> None:
        self._parameters = seam.parameters or ()
        self.args, self.kwargs = args, kwargs
        self.named: Mapping[str, Any] = {**dict(zip(self._parameters, args, strict=False)), **kwargs}

    @property
    def are_known(self) -> bool:
        """Return whether the seam knows every argument of the call."""
        return len(self.args) <= len(self._parameters) and self.kwargs.keys() <= set(self._parameters)

    def get(self, name: str) -> Any:
        """Return an argument by the name of its parameter."""
        return self.named.get(name)

    def replace(self, **values: object) -> Arguments:
        """Return the same arguments with other values for some of them."""
        args, kwargs = list(self.args), dict(self.kwargs)
        for name, value in values.items():
            if name in kwargs:
                kwargs[name] = value
            else:
                args[self._parameters.index(name)] = value
        new = object.__new__(Arguments)
        new._parameters, new.args, new.kwargs = self._parameters, tuple(args), kwargs
        new.named = {**self.named, **values}
        return new


def install(seam: Seam, wrap: Callable[[Method], Method]) -> None:
    """Wrap the method of a seam, unless it is already wrapped or its signature is not as expected."""
    owner = seam.find_owner()
    method = getattr(owner, seam.name, None)
    if owner is None or method is None or is_installed(seam):
        return
    if any(find_name_faults((seam, *NEEDED))):
        return
    hook = wrap(method)
    setattr(hook, MARK, getattr(hook, "__code__", None))
    setattr(owner, seam.name, hook)


def is_installed(seam: Seam) -> bool:
    """Return whether a call of a seam's method reaches its hook, as far as can be determined without a call."""
    owner = seam.find_owner()
    if owner is None:
        return False
    seen: dict[int, object] = {}
    waiting = [getattr(owner, seam.name, None), inspect.getattr_static(owner, seam.name, None)]
    while waiting and len(seen) < MAX_EXAMINED:
        found = waiting.pop(0)
        if found is None or id(found) in seen:
            continue
        seen[id(found)] = found
        if _is_hook(found, seam):
            return True
        waiting += _reachable(found, owner, seam.name)
    return False


def takes_options(method: Method) -> bool:
    """Return whether a method may accept keywords other than field names, as methods of other packages may."""
    if not getattr(method, "__globals__", {}).get("__name__", "").startswith("django."):
        return True
    kinds = [parameter.kind for parameter in inspect.signature(method).parameters.values()]
    return inspect.Parameter.KEYWORD_ONLY in kinds


def note_unknown_call(seam: Seam) -> None:
    """Record that a hook was called with unknown arguments, so that the write was not captured."""
    if seam not in _unread:
        _unread[seam] = None
        logger.error("%s was called with arguments that declbind does not know. %s", seam, seam.effect)


def find_hook_faults(hooked: Iterable[Seam]) -> Iterator[SeamFault]:
    """Yield the hooks that are no longer called, or not with the arguments that they need."""
    for seam in hooked:
        if seam.find_problem():  # reported by ``find_name_faults``
            continue
        if not is_installed(seam) and not any(find_name_faults(NEEDED)):
            yield SeamFault(
                seam,
                f"declbind's wrapper of {seam} was replaced by {_describe(getattr(seam.find_owner(), seam.name))}.",
                "Let the replacement call the method that was there before it, or list its app before 'declbind' in "
                "INSTALLED_APPS.",
            )
        elif seam in _unread:
            yield SeamFault(
                seam,
                f"{seam} was called with arguments that declbind does not know.",
                "See the log of the process for the call, and install a newer declbind.",
            )


def _describe(method: object) -> str:
    if isinstance(method, FunctionType):  # ``functools.wraps`` may have copied its names
        return f"{method.__globals__.get('__name__', '')}.{method.__code__.co_qualname}".lstrip(".")
    return f"an object of {type(method).__module__}.{type(method).__qualname__}"


def _is_hook(found: object, seam: Seam) -> bool:
    return (
        isinstance(found, FunctionType)
        and vars(found).get(MARK) is found.__code__
        and found.__code__.co_name == seam.name
    )


def _reachable(found: object, owner: object, name: str) -> Iterator[object]:
    """Yield the objects that a callable may call: those that it refers to, and those that these refer to in turn."""
    if isinstance(found, FunctionType):
        yield from _referred(found, owner, name)
    elif isinstance(found, MethodType):
        yield from (found.__func__, found.__self__)
    elif isinstance(found, staticmethod | classmethod):
        yield found.__func__
    elif isinstance(found, functools.partial):
        yield from (found.func, *found.args, *found.keywords.values())
    elif isinstance(found, functools.partialmethod):
        yield found.func
    elif isinstance(found, list | tuple | set | frozenset):
        yield from found
    elif isinstance(found, dict):
        yield from found.values()
    elif isinstance(found, type):
        if not found.__module__.startswith(("django.", "builtins")):
            yield from vars(found).values()
    elif not isinstance(found, ModuleType | str | bytes | int | float):
        if callable(found):  # queries the class only, so that a lazy object is not evaluated
            yield from (inspect.getattr_static(type(found), "__call__"), getattr(found, "__wrapped__", None))
        try:
            yield from object.__getattribute__(found, "__dict__").values()
        except AttributeError:
            return


def _referred(function: FunctionType, owner: object, name: str) -> Iterator[object]:
    """Yield what the code of a function refers to: its closure, its defaults, and globals and attributes by name."""
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    yield from (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    names = set(_names(function.__code__))
    if "__wrapped__" in names:
        yield getattr(function, "__wrapped__", None)
    for used in names:
        value = function.__globals__.get(used)
        yield value
        if isinstance(value, ModuleType):
            yield from (vars(value).get(other) for other in names)
        if used != name:
            yield inspect.getattr_static(owner, used, None)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
