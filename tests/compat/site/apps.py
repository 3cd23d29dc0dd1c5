"""The app config of the course's models."""

import os

from django.apps import AppConfig


class SiteConfig(AppConfig):
    """An app without migrations: its tables are made by `migrate --run-syncdb`."""

    name = "tests.compat.site"
    label = "compat"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Install the fault that `COMPAT_SABOTAGE` names, so that a test can show that the course detects it."""
        from . import sabotage

        sabotage.install(os.environ.get("COMPAT_SABOTAGE", ""))
