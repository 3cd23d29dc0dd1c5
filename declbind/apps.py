"""Startup of declbind, which runs in every Django process because each one may write to bound models."""

from django.apps import AppConfig
from django.db import router
from django.db.models.signals import post_migrate
from django.utils.translation import gettext, gettext_lazy


class DeclbindConfig(AppConfig):
    """The application config. It loads the bindings of files and classes and installs capture, without any query."""

    name = "declbind"
    verbose_name = gettext_lazy("Data binding")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Install everything, once all models are loaded."""
        from . import checks, registry
        from .core.sentences import Sentence
        from .inbound import revocation
        from .live import traffic
        from .outbound import capture, relay

        Sentence.translate = gettext
        checks.install()
        registry.install()
        revocation.install()
        relay.install()
        traffic.install()
        capture.install()
        # A faulty bindings module fails at startup, not at the first write.
        registry.current_registry()
        post_migrate.connect(self.insert_first_rows, sender=self, dispatch_uid="declbind.first_rows")

    def insert_first_rows(self, using: str, **kwargs: object) -> None:
        """Insert the rows that a flush deletes; the migration inserts them first (``0002_first_rows``)."""
        from . import growth
        from .models import Configuration, Head
        from .outbound import history, log

        is_ours = all(router.allow_migrate_model(using, model) for model in (Configuration, Head))
        if is_ours and log.is_here(using):
            Configuration.ensure(using)
            history.ensure_head(using)
            growth.follow_migration(using)
