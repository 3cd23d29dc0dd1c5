"""The pages other than the list and the form. Each module gives its addresses, which precede Django's own."""

from __future__ import annotations

from django.urls import URLPattern

from admin_ui.bindings import binding_page, elsewhere, export_page, growth_page, import_page, undo
from admin_ui.common.screen import RecordAdmin
from admin_ui.editor import json_page, panel
from admin_ui.pages import connections_page, doctor_page, processes_page, try_page, why_page
from admin_ui.traffic import live

#: Modules with ``urls(model_admin, prefix)``; the names of the addresses begin with ``prefix``.
SCREENS = (
    binding_page,
    live,
    why_page,
    try_page,
    connections_page,
    processes_page,
    doctor_page,
    import_page,
    export_page,
    elsewhere,
    panel,
    undo,
    json_page,
    growth_page,
)


def screen_urls(model_admin: RecordAdmin) -> list[URLPattern]:
    """Return the addresses of all pages, under the names ``admin:declbind_bindingrecord_<page>``."""
    prefix = f"{model_admin.opts.app_label}_{model_admin.opts.model_name}"
    return [pattern for page in SCREENS for pattern in page.urls(model_admin, prefix)]
