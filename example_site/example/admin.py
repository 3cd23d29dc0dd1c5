"""Admin page for the numbers; the open board shows changes at once."""

from django.contrib import admin

from example_site.example.models import IntegerValue


@admin.register(IntegerValue)
class IntegerValueAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("name", "value")
    list_editable = ("value",)
    search_fields = ("name",)
