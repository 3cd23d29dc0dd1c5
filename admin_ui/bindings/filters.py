"""The filters of the list, which apply to the bindings of files and classes too."""

from __future__ import annotations

from collections.abc import Sequence

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy, pgettext_lazy

from admin_ui.bindings.summary import Summary
from admin_ui.common.phrases import StrOrPromise
from admin_ui.common.screen import RecordAdmin
from declbind.console.usage import load_used_streams
from declbind.models import BindingRecord
from declbind.registry import database_alias, get_registry


class BindingFilter(admin.SimpleListFilter):
    """A filter of database rows by a query and of all other bindings by their summary."""

    choices_offered: tuple[tuple[str, StrOrPromise], ...] = ()

    def lookups(self, request: HttpRequest, model_admin: RecordAdmin) -> list[tuple[str, str]]:
        """Return the choices."""
        return [(value, str(words)) for value, words in self.choices_offered]

    def queryset(self, request: HttpRequest, queryset: QuerySet[BindingRecord]) -> QuerySet[BindingRecord]:
        """Narrow the rows to the choice."""
        value = self.value()
        return self.narrow(queryset, value) if value else queryset

    def narrow(self, rows: QuerySet[BindingRecord], value: str) -> QuerySet[BindingRecord]:
        """Return the rows that match ``value``."""
        raise NotImplementedError

    @classmethod
    def keep(cls, summaries: Sequence[Summary], value: str) -> list[Summary]:
        """Return the bindings from elsewhere that match ``value``."""
        return [summary for summary in summaries if cls.accepts(summary, value)]

    @staticmethod
    def accepts(summary: Summary, value: str) -> bool:
        """Return whether a binding from elsewhere matches ``value``."""
        raise NotImplementedError


class StateFilter(BindingFilter):
    """A filter by state."""

    title = gettext_lazy("state")
    parameter_name = "state"
    choices_offered = (
        ("active", pgettext_lazy("state", "active")),
        ("disabled", gettext_lazy("disabled")),
        ("invalid", gettext_lazy("invalid")),
    )

    def narrow(self, rows: QuerySet[BindingRecord], value: str) -> QuerySet[BindingRecord]:
        """Return the rows by state; invalid ones are those that the registry leaves out."""
        invalid = invalid_streams("database")
        if value == "invalid":
            return rows.filter(stream__in=invalid)
        return rows.exclude(stream__in=invalid).filter(enabled=value == "active")

    @staticmethod
    def accepts(summary: Summary, value: str) -> bool:
        """Compare the state."""
        return summary.state == value


class DirectionFilter(BindingFilter):
    """A filter by direction."""

    title = gettext_lazy("direction")
    parameter_name = "direction"
    choices_offered = (
        ("both", gettext_lazy("both ways")),
        ("outbound", gettext_lazy("only to clients")),
        ("inbound", gettext_lazy("only from clients")),
    )

    def narrow(self, rows: QuerySet[BindingRecord], value: str) -> QuerySet[BindingRecord]:
        """Compare the column."""
        return rows.filter(direction=value)

    @staticmethod
    def accepts(summary: Summary, value: str) -> bool:
        """Compare the key."""
        return summary.spec is not None and summary.spec.direction == value


class AppFilter(BindingFilter):
    """A filter by the app of the model."""

    title = gettext_lazy("app")
    parameter_name = "app"

    def lookups(self, request: HttpRequest, model_admin: RecordAdmin) -> list[tuple[str, str]]:
        """Return the apps that have bindings, including invalid ones. Makes no query, to limit those of the list."""
        found = {entry.model.partition(".")[0].lower() for entry in get_registry().entries} - {""}
        return [(label, label) for label in sorted(found)]

    def narrow(self, rows: QuerySet[BindingRecord], value: str) -> QuerySet[BindingRecord]:
        """Compare the part before the dot."""
        if value not in dict(self.lookup_choices):
            return rows.none()
        return rows.filter(model__istartswith=f"{value}.")

    @staticmethod
    def accepts(summary: Summary, value: str) -> bool:
        """Compare the part before the dot."""
        return summary.app_label == value


class SourceFilter(BindingFilter):
    """A filter by source."""

    title = gettext_lazy("source")
    parameter_name = "source"
    choices_offered = (
        ("database", gettext_lazy("database")),
        ("file", gettext_lazy("file")),
        ("code", gettext_lazy("code")),
    )

    def narrow(self, rows: QuerySet[BindingRecord], value: str) -> QuerySet[BindingRecord]:
        """Return all rows or none: every row is from the database."""
        return rows if value == "database" else rows.none()

    @staticmethod
    def accepts(summary: Summary, value: str) -> bool:
        """Compare the source."""
        return summary.source == value


class OpenFilter(BindingFilter):
    """A filter by whether some action needs no permission at all."""

    title = gettext_lazy("open to everyone")
    parameter_name = "open"
    choices_offered = (("yes", gettext_lazy("yes")),)

    def narrow(self, rows: QuerySet[BindingRecord], value: str) -> QuerySet[BindingRecord]:
        """Return the rows with a true among the permissions of an open direction."""
        view = Q(permissions__view=True) & ~Q(direction="inbound")
        write = Q(permissions__create=True) | Q(permissions__update=True) | Q(permissions__delete=True)
        return rows.filter(view | (write & ~Q(direction="outbound")))

    @staticmethod
    def accepts(summary: Summary, value: str) -> bool:
        """Return the summary's answer."""
        return summary.is_open_to_everyone


class SilentFilter(BindingFilter):
    """A filter by whether anything was sent recently."""

    title = gettext_lazy("silent")
    parameter_name = "silent"
    choices_offered = (("7", gettext_lazy("for 7 days")),)

    def narrow(self, rows: QuerySet[BindingRecord], value: str) -> QuerySet[BindingRecord]:
        """Leave out the streams that sent something."""
        return rows.exclude(stream__in=load_used_streams(7, database_alias())) if value == "7" else rows

    @classmethod
    def keep(cls, summaries: Sequence[Summary], value: str) -> list[Summary]:
        """Leave out the streams that sent something."""
        used = load_used_streams(7, database_alias()) if value == "7" else set()
        return [summary for summary in summaries if summary.stream not in used]


FILTERS: tuple[type[BindingFilter], ...] = (
    StateFilter,
    SourceFilter,
    AppFilter,
    DirectionFilter,
    OpenFilter,
    SilentFilter,
)


def invalid_streams(*sources: str) -> set[str]:
    """Return the streams that the registry leaves out because of problems."""
    return {entry.stream for entry in get_registry().entries if entry.problems and entry.source in sources}


def pass_through(summaries: Sequence[Summary], request: HttpRequest) -> list[Summary]:
    """Return the bindings from elsewhere that match the search and the filters of a request."""
    text = request.GET.get("q", "")
    found = [summary for summary in summaries if summary.matches(text)]
    for item in FILTERS:
        value = request.GET.get(item.parameter_name or "")
        if value:
            found = item.keep(found, value)
    return found
