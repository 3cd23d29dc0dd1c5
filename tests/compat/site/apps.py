"""Configuration of the course's app."""

import os

from django.apps import AppConfig


class SiteConfig(AppConfig):
    """An app without migrations: its tables are made by `migrate --run-syncdb`."""

    name = "tests.compat.site"
    label = "compat"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Break what `COMPAT_SABOTAGE` names, so that a test can show that the course notices it."""
        from . import sabotage

        sabotage.install(os.environ.get("COMPAT_SABOTAGE", ""))
