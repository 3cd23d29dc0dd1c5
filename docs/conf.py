"""Configuration of the documentation: `make docs`, or `python -m sphinx -W -b html docs build/docs`."""

import sys
from pathlib import Path

import django
from django.conf import settings

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_extensions")]

# The docstrings of declbind are read from the imported modules, and these need Django's app registry. Nothing connects.
settings.configure(
    SECRET_KEY="only-for-the-documentation",
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.messages",
        "django.contrib.sessions",
        "channels",
        "declbind",
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
)
django.setup()

from declbind import __version__  # noqa: E402 (needs the path above)

project = "declbind"
copyright = "declbind contributors"  # noqa: A001 (the name that Sphinx reads)
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "reference"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_extensions"]

# GitHub and Sphinx make the same anchors, so a link to a heading works on both.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist", "attrs_inline"]

# A reference in a docstring that leads nowhere is an error if it names something public of declbind.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!declbind\.(?!core\.|stored_rows\.)).*")]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
default_role = "literal"
toc_object_entries = False

html_theme = "furo"
html_title = "declbind"
html_static_path = ["_static"]
html_css_files = ["declbind.css"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b6e4f", "color-brand-content": "#0b6e4f"},
    "dark_css_variables": {"color-brand-primary": "#5fd3a5", "color-brand-content": "#5fd3a5"},
}
