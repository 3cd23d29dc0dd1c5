"""Seams: the private or undocumented names of other packages, and the check that each is as declbind needs it."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from importlib import metadata
from typing import Literal

from django.core.exceptions import ImproperlyConfigured
from django.utils.connection import ConnectionDoesNotExist

#: The bindings that a fault concerns: all, those whose model has parents, those that send many-to-many fields, or
#: none.
Concern = Literal["all", "children", "lists", "none"]


@dataclass(frozen=True)
class Seam:
    """A private or undocumented name, and what declbind needs of it.

    Attributes:
        module: The module in which the name is looked up.
        path: The name, with dots below a class.
        effect: What does not work without it, as a sentence.
        parameters: The leading parameters of the callable without ``self``; ``None`` for a name that is not called.
        attributes: The attributes that the object needs, with dots for attributes of attributes.
        make: Makes the object that has the attributes from the named one, if an instance has them.
        concerns: The bindings that a fault concerns.
        is_hooked: Whether declbind wraps the callable.
    """

    module: str
    path: str
    effect: str
    parameters: tuple[str, ...] | None = None
    attributes: tuple[str, ...] = ()
    make: Callable[[object], object] | None = None
    concerns: Concern = "none"
    is_hooked: bool = False

    def __str__(self) -> str:
        return f"{self.module}.{self.path}"

    @property
    def name(self) -> str:
        """Return the last part of the path."""
        return self.path.rpartition(".")[2]

    def find_owner(self) -> object | None:
        """Return the class or module that has the name, or ``None`` if there is none."""
        path = self.path.rpartition(".")[0]
        try:
            return _follow(importlib.import_module(self.module), path) if path else importlib.import_module(self.module)
        except (ImportError, AttributeError):
            return None

    def find_problem(self) -> str:
        """Return the problem with the name, as a sentence; "" if it is as expected.

        Only Django's modules are imported for this. A module of another package is checked if the process uses it.
        """
        if not self.module.startswith("django.") and self.module not in sys.modules:
            return ""
        owner = self.find_owner()
        found = getattr(owner, self.name, None)
        if found is None:
            return f"{self} does not exist in {_release(self.module)}."
        if self.parameters is not None and (given := describe_other_parameters(found, self.parameters)):
            return f"{self} was expected to take ({', '.join(self.parameters)}), and takes {given}."
        missing = self._missing_attributes(found)
        return f"{self} has no {', '.join(missing)} in {_release(self.module)}." if missing else ""

    def _missing_attributes(self, found: object) -> list[str]:
        try:
            made = self.make(found) if self.make is not None else found
        except (ImproperlyConfigured, ConnectionDoesNotExist, ImportError):
            return []  # other checks report an unusable database
        except Exception:  # ``make`` failed, because a name that it uses has changed
            return list(self.attributes)
        return [name for name in self.attributes if not _has(made, name)]


@dataclass(frozen=True)
class SeamFault:
    """A seam that is not as expected: the problem, its effect, and the fix."""

    seam: Seam
    problem: str
    action: str

    @property
    def text(self) -> str:
        """Return the problem and its effect."""
        return f"{self.problem} {self.seam.effect}"


def describe_other_parameters(function: object, expected: tuple[str, ...]) -> str:
    """Return the signature of a callable whose leading parameters are not ``expected``, otherwise "".

    More parameters are accepted, and so is a callable of another package that takes arguments of any name.
    """
    if not callable(function):
        return repr(function)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # not written in Python
        return ""
    found = list(signature.parameters.values())
    kinds = {parameter.kind for parameter in found}
    is_django = getattr(function, "__globals__", {}).get("__name__", "").startswith("django.")
    if kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD} and not is_django:
        return ""
    positional = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    names = [parameter.name for parameter in found if parameter.kind in positional]
    names = names if names[:1] == list(expected[:1]) else names[1:]  # without ``self``
    keywords = {parameter.name for parameter in found if parameter.kind is inspect.Parameter.KEYWORD_ONLY}
    leading = tuple(names[: len(expected)])
    return (
        "" if leading == expected[: len(leading)] and keywords.issuperset(expected[len(leading) :]) else str(signature)
    )


def _follow(start: object, path: str) -> object:
    return reduce(getattr, path.split("."), start)


def _has(start: object, path: str) -> bool:
    try:
        _follow(start, path)
    except AttributeError:
        return False
    return True


def _release(module: str) -> str:
    package = module.partition(".")[0]
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return package
