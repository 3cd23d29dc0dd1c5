"""The guests: third-party packages that declbind is tested with, each set up by its own instructions.

To add one: an entry here, its packages in the extra ``guests`` with a pin in the constraints, and a module of its
name in ``shops``, which becomes the models of a fresh project.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tests.servers import ROOT

SQLITE, POSTGRES = "SQLite", "PostgreSQL"
#: The capture modes of a binding; a guest is run with each.
HOOKS, TRIGGERS = "orm", "triggers"
CAPTURES = (HOOKS, TRIGGERS)
#: The Python and Django that a guest is run with: the newest that declbind supports, or the oldest.
NEWEST, OLDEST = "3.13/6.1", "3.11/5.2"
ENDS = (OLDEST, NEWEST)
#: The folder of the modules that become the models of a guest's project.
SHOPS = Path(__file__).parent / "shops"
#: The shop of packages that wrap requests and cursors: its pages are visited.
VISITED = "visited"


@dataclass(frozen=True)
class Guest:
    """One or more packages, and the additions to a project that their instructions require.

    Attributes:
        name: The module in ``shops``, unless ``shop`` names one that guests share.
        packages: The packages as the constraints name them.
        settings: Lines for the end of the settings.
        urls: Lines for the end of the URL configuration.
        files: More files of the project's own app.
        startup: Lines for the beginning of ``manage.py``, before Django is set up.
        databases: The databases that the packages support.
        remark: What users of the packages should know, as a sentence.
        end: The Python and Django that it is run with: the newest that the packages support.
        why: The reason for an end that is not the newest.
        shop: The module in ``shops``, if it is not named like the guest.
    """

    name: str
    packages: Sequence[str]
    settings: str = ""
    urls: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    startup: str = ""
    databases: Sequence[str] = (SQLITE, POSTGRES)
    remark: str = ""
    end: str = NEWEST
    why: str = ""
    shop: str = ""

    @property
    def models(self) -> Path:
        """Return the file that becomes the models of the guest's project."""
        return SHOPS / f"{self.shop or self.name}.py"

    def __str__(self) -> str:
        return self.name


def _apps(*names: str) -> str:
    """Return the line of the settings that installs apps before the project's own."""
    return f"INSTALLED_APPS = [*{list(names)!r}, *INSTALLED_APPS]\n"


_MIDDLEWARE = "MIDDLEWARE = [*MIDDLEWARE, {0!r}]\n"
_TRANSLATION = """\
from modeltranslation.translator import TranslationOptions, register

from .models import Item


@register(Item)
class ItemOptions(TranslationOptions):
    fields = ("title",)
"""

GUESTS = (
    Guest(
        "pghistory",
        ["django-pghistory", "django-pgtrigger"],
        _apps("pgtrigger", "pghistory"),
        databases=(POSTGRES,),
        remark="Only triggers see the rows of history.",
    ),
    Guest("pgtrigger", ["django-pgtrigger"], _apps("pgtrigger"), databases=(POSTGRES,)),
    Guest("polymorphic", ["django-polymorphic"], _apps("polymorphic")),
    Guest("mptt", ["django-mptt"], _apps("mptt"), remark="Only triggers see what moves in the tree do to other rows."),
    Guest(
        "treebeard",
        ["django-treebeard"],
        _apps("treebeard"),
        remark="Only triggers see what moves in the tree do to other rows.",
    ),
    Guest("safedelete", ["django-safedelete"], _apps("safedelete")),
    Guest(
        "modeltranslation",
        ["django-modeltranslation"],
        _apps("modeltranslation")
        + "LANGUAGE_CODE = 'en'\nLANGUAGES = [('en', 'English'), ('de', 'German')]\n"
        + "MODELTRANSLATION_DEFAULT_LANGUAGE = 'en'\n",
        files={"translation.py": _TRANSLATION},
    ),
    Guest(
        "parler",
        ["django-parler"],
        _apps("parler")
        + "LANGUAGE_CODE = 'en'\nLANGUAGES = [('en', 'English'), ('de', 'German')]\n"
        + "PARLER_LANGUAGES = {None: ({'code': 'en'}, {'code': 'de'}), 'default': {'fallbacks': ['en']}}\n",
    ),
    Guest(
        "simple_history",
        ["django-simple-history"],
        _apps("simple_history") + _MIDDLEWARE.format("simple_history.middleware.HistoryRequestMiddleware"),
    ),
    Guest(
        "reversion",
        ["django-reversion"],
        _apps("reversion") + _MIDDLEWARE.format("reversion.middleware.RevisionMiddleware"),
    ),
    Guest(
        "guardian",
        ["django-guardian"],
        _apps("guardian")
        + "AUTHENTICATION_BACKENDS = ['django.contrib.auth.backends.ModelBackend', "
        + "'guardian.backends.ObjectPermissionBackend']\n",
    ),
    Guest("money", ["django-money"], _apps("djmoney")),
    Guest("taggit", ["django-taggit"], _apps("taggit")),
    Guest("model_utils", ["django-model-utils"]),
    Guest("fsm", ["django-fsm-2"], _apps("django_fsm")),
    Guest("import_export", ["django-import-export"], _apps("import_export")),
    Guest("ordered_model", ["django-ordered-model"], _apps("ordered_model")),
    Guest(
        "hashid_field",
        ["django-hashid-field"],
        "HASHID_FIELD_SALT = 'only for tests'\n",
        end=OLDEST,
        why="its lookups extend the parameters of Django, which are a tuple since Django 6.0",
    ),
    Guest("lifecycle", ["django-lifecycle"], _apps("django_lifecycle_checks")),
    Guest("dirtyfields", ["django-dirtyfields"]),
    Guest(
        "debug_toolbar",
        ["django-debug-toolbar"],
        _apps("debug_toolbar")
        + "MIDDLEWARE = ['debug_toolbar.middleware.DebugToolbarMiddleware', *MIDDLEWARE]\n"
        + "INTERNAL_IPS = ['127.0.0.1']\nDEBUG = True\n"
        + "DEBUG_TOOLBAR_CONFIG = {'IS_RUNNING_TESTS': False}\n",
        "from debug_toolbar.toolbar import debug_toolbar_urls\nurlpatterns += debug_toolbar_urls()\n",
        shop=VISITED,
    ),
    Guest(
        "silk",
        ["django-silk"],
        _apps("silk") + "MIDDLEWARE = ['silk.middleware.SilkyMiddleware', *MIDDLEWARE]\n",
        "from django.urls import include\nurlpatterns += [path('silk/', include('silk.urls', namespace='silk'))]\n",
        shop=VISITED,
    ),
    Guest(
        "opentelemetry",
        [
            "opentelemetry-instrumentation-django",
            "opentelemetry-instrumentation-psycopg",
            "opentelemetry-instrumentation-sqlite3",
        ],
        startup="""\
from opentelemetry import trace
from opentelemetry.instrumentation.django import DjangoInstrumentor
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor
from opentelemetry.sdk.trace import TracerProvider

trace.set_tracer_provider(TracerProvider())
DjangoInstrumentor().instrument(is_sql_commentor_enabled=True)
PsycopgInstrumentor().instrument(enable_commenter=True)
SQLite3Instrumentor().instrument(enable_commenter=True)
""",
        shop=VISITED,
    ),
    Guest(
        "sentry",
        ["sentry-sdk"],
        # Without a DSN nothing is sent; the spans of queries are created anyway.
        "import sentry_sdk\nsentry_sdk.init(traces_sample_rate=1.0, send_default_pii=True)\n",
        shop=VISITED,
    ),
)
BY_NAME = {guest.name: guest for guest in GUESTS}


@cache
def pinned_versions() -> dict[str, str]:
    """Return the versions of the constraints by the names of their packages."""
    lines = (ROOT / ".ci" / "constraints.txt").read_text()
    return dict(re.findall(r"^([\w.-]+)==([\w.]+)$", lines, re.MULTILINE))
