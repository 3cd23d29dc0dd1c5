"""Start the admin pages."""

from django.apps import AppConfig


class DeclbindAdminConfig(AppConfig):
    """Name the app; it has no models of its own."""

    name = "admin_ui"
    label = "declbind_admin"
    verbose_name = "Bindings console"
