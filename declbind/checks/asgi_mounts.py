"""The consumers of declbind in the ASGI application of the settings, and whether a middleware knows users.

The application is walked and never called. A callable of another package ends the walk, because what it calls is not
known.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from channels.auth import AuthMiddleware
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings as django_settings
from django.utils.module_loading import import_string

from declbind.live.consumers import BindingConsumer
from declbind.routing import serve_bindings

#: Attributes in which middleware keeps the application that it wraps.
INNER = ("inner", "application", "app")
#: Middleware of these packages does not set users, except for the classes that are named.
KNOWN = ("channels.", "declbind.")
MAX_DEPTH = 30


@dataclass(frozen=True)
class Mounts:
    """The addresses at which an ASGI application serves consumers of declbind.

    Attributes:
        application: The dotted path of the application, "" if the settings name none.
        paths: The paths of the consumers, with a slash in front.
        has_login: Whether a middleware in front of each consumer may set users.
        is_known: Whether all of the application could be walked.
        fault: Why it could not be imported, else "".
    """

    application: str = ""
    paths: tuple[str, ...] = ()
    has_login: bool = True
    is_known: bool = False
    fault: str = ""


@dataclass(frozen=True)
class _Found:
    """A consumer, or the end of a walk if ``path`` is ``None``."""

    path: str | None
    has_login: bool = True


def find_mounts() -> Mounts:
    """Return the mounts of the ASGI application that the settings name. Makes no query."""
    name = getattr(django_settings, "ASGI_APPLICATION", None)
    if not name:
        return Mounts()
    try:
        application = import_string(str(name).replace(":", "."))
    except Exception as error:  # a module of the project, which may fail in any way
        return Mounts(str(name), fault=f"{type(error).__name__}: {error}")
    found = list(_walk(application, "", False, MAX_DEPTH))
    mounted = [one for one in found if one.path is not None]
    return Mounts(
        str(name),
        tuple(dict.fromkeys(f"/{one.path}" for one in mounted)),
        all(one.has_login for one in mounted),
        len(mounted) == len(found),
    )


def describe_paths(mounts: Mounts) -> str:
    """Return the paths on one line."""
    return " and ".join(mounts.paths)


def _walk(application: Any, prefix: str, has_login: bool, depth: int) -> Iterator[_Found]:
    """Yield the consumers behind an application, and an end for each part that cannot be walked."""
    if application is None:
        return
    consumer = getattr(application, "consumer_class", None)
    if application is serve_bindings or (isinstance(consumer, type) and issubclass(consumer, BindingConsumer)):
        yield _Found(prefix, has_login)
    elif consumer is not None:
        return  # a consumer of the project
    elif depth == 0:
        yield _Found(None)
    elif isinstance(application, ProtocolTypeRouter):
        yield from _walk(application.application_mapping.get("websocket"), prefix, has_login, depth - 1)
    elif isinstance(application, URLRouter):
        for route in application.routes:
            callback = getattr(route, "callback", None)
            yield from _walk(callback, f"{prefix}{_path_of(route)}", has_login, depth - 1)
    else:
        yield from _walk_middleware(application, prefix, has_login, depth - 1)


def _walk_middleware(application: Any, prefix: str, has_login: bool, depth: int) -> Iterator[_Found]:
    module = type(application).__module__
    sets_user = isinstance(application, AuthMiddleware) or "auth" in type(application).__name__.lower()
    # Middleware of the project may set the user as well.
    knows_users = has_login or sets_user or not f"{module}.".startswith(KNOWN)
    inner = next((getattr(application, name) for name in INNER if callable(getattr(application, name, None))), None)
    if inner is None and isinstance(application, functools.partial):
        inner = application.func
    if inner is not None:
        yield from _walk(inner, prefix, knows_users, depth)
        return
    wrapped = list(_closure_of(application))
    if not wrapped:
        if module.startswith("django."):
            return  # Django's own handlers serve HTTP only
        yield _Found(None)
        return
    for one in wrapped:
        yield from _walk(one, prefix, True, depth)


def _closure_of(function: object) -> Iterator[object]:
    """Yield the applications that a function refers to, as far as its closure shows them."""
    if isinstance(function, FunctionType):
        for cell in function.__closure__ or ():
            try:
                content = cell.cell_contents
            except ValueError:  # not assigned yet
                continue
            if callable(content):
                yield content


def _path_of(route: Any) -> str:
    pattern = str(getattr(route, "pattern", ""))
    return pattern.lstrip("^").rstrip("$").removesuffix(r"\Z")
