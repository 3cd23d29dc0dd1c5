"""The console's pages as entries of the admin's own index and menu."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from django.contrib.admin import AdminSite
from django.http import HttpRequest

from admin_ui.common import screen
from admin_ui.common.screen import Context, RecordAdmin

#: An app in the admin's index, with its models.
App: TypeAlias = Context
#: The model whose list shows the same as a page of the console.
REPLACED = "Node"


def extend_menu(model_admin: RecordAdmin, site: AdminSite) -> None:
    """Add the console's pages to the menu of an admin site, below the bindings; once for each site."""
    if getattr(site, "_declbind_menu", None) is not None:
        return
    build: Callable[..., list[App]] = site.get_app_list

    def get_app_list(request: HttpRequest, app_label: str | None = None) -> list[App]:
        apps = build(request, app_label)
        registered = site._registry.get(model_admin.model)
        for app in apps:
            if app["app_label"] == model_admin.opts.app_label and registered is not None:
                _add_pages(app, registered, request)
        return apps

    site._declbind_menu = True  # type: ignore[attr-defined]
    site.get_app_list = get_app_list  # type: ignore[method-assign]


def _add_pages(app: App, model_admin: RecordAdmin, request: HttpRequest) -> None:
    listed = screen.page_url(model_admin, "changelist")
    entries = [
        {
            "name": page.label,
            "object_name": f"Declbind{page.label.title().replace(' ', '').rstrip('?')}",
            "perms": {"add": False, "change": False, "delete": False, "view": True},
            "admin_url": page.url,
            "add_url": None,
            "view_only": True,
            "model": None,
        }
        for page in screen.console_pages(model_admin, request)
        if page.url != listed
    ]
    if any(entry["name"] == "Processes" for entry in entries):
        app["models"] = [model for model in app["models"] if model["object_name"] != REPLACED]
    # The bindings first, then the pages, and the revisions at the end.
    first = [model for model in app["models"] if model["object_name"] == "BindingRecord"]
    rest = [model for model in app["models"] if model["object_name"] != "BindingRecord"]
    app["models"][:] = [*first, *entries, *rest]
