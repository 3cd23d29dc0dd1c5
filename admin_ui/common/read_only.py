"""The base of admin pages for rows that nobody edits by hand."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest
from django.urls import URLPattern

from admin_ui.common.faults import report_faults
from declbind.models import BindingRecord


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """An admin of rows that only the program writes."""

    actions = None

    def get_urls(self) -> list[URLPattern]:
        """Return the addresses of Django's pages, wrapped to explain a failing database."""
        return report_faults(self, super().get_urls())

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return False, because nobody may add rows."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: BindingRecord | None = None) -> bool:
        """Return False, because nobody may change rows."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: BindingRecord | None = None) -> bool:
        """Return False, because nobody may delete rows."""
        return False
