"""The app config of the ticker."""

from django.apps import AppConfig


class TickerConfig(AppConfig):
    name = "example_site.ticker"
    label = "ticker"
    verbose_name = "Ticker"
    default_auto_field = "django.db.models.BigAutoField"
