"""Start declbind in a Django process: any process, for every one of them may write."""

from django.apps import AppConfig


class DeclbindConfig(AppConfig):
    """Load the bindings of files and classes and put the capture hooks in. Makes no query."""

    name = "declbind"
    verbose_name = "Bindings"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect everything, once all models are loaded."""
        from . import checks, registry
        from .inbound import revocation
        from .live import traffic
        from .outbound import capture, relay

        checks.install()
        registry.install()
        revocation.install()
        relay.install()
        traffic.install()
        capture.install()
        # A fault in a module of bindings shows at the start, not at the first write.
        registry.current_registry()
