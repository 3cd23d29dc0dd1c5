"""The verbs of ``manage.py declbind`` in groups: their arguments and their print-out.

``records`` prints and changes binding records, ``rows`` asks about one row, ``running`` looks at what runs,
``triggers`` after the database triggers. What a verb finds out is in ``declbind/console``. To add one, give a group an
``add(...)`` and a ``run_<verb>(using, options)`` that returns whether all is well.
"""

from __future__ import annotations

from collections.abc import Callable

from django.core.management.base import BaseCommand, CommandParser

#: Adds a verb: its name, what it does, and whether it takes ``--format``; returns its parser.
Add = Callable[..., CommandParser]


class VerbGroup(BaseCommand):
    """Be a part of the command; ``self.stdout`` and ``self.style`` are the command's."""
