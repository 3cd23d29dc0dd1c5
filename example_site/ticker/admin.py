"""Admin page for the prices."""

from django.contrib import admin

from example_site.ticker.models import Price


@admin.register(Price)
class PriceAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("symbol", "date", "price")
    list_filter = ("symbol",)
    date_hierarchy = "date"
