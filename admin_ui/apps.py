"""The app of the admin pages."""

from importlib.util import find_spec

from django.apps import AppConfig
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy

import declbind

if find_spec("declbind.core") is None:
    # Otherwise the first page's module would fail to import a module of declbind, with a misleading error.
    raise ImproperlyConfigured(
        "'admin_ui' expected the package 'declbind' that it was installed with, and found another one: "
        f"{getattr(declbind, '__file__', None) or list(declbind.__path__)!r}. Rename that one."
    )


class DeclbindAdminConfig(AppConfig):
    """The application config; it has no models of its own."""

    name = "admin_ui"
    label = "declbind_admin"
    verbose_name = gettext_lazy("Bindings console")
