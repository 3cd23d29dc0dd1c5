"""The verbs of ``manage.py declbind`` in groups: their arguments and their output.

``records`` prints and changes binding records, ``rows`` answers questions about one row, ``running`` manages
processes and connections, and ``triggers`` manages the database triggers. The answers themselves come from
``declbind/console``. To add a verb, give a group an ``add(...)`` and a ``run_<verb>(using, options)`` that returns
whether all is well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from django.core.management.base import BaseCommand, CommandParser

#: The parsed arguments of the command line.
Options: TypeAlias = dict[str, Any]
#: Adds a verb: its name, its help, and whether it takes ``--format``; returns its parser.
Add = Callable[..., CommandParser]


class VerbGroup(BaseCommand):
    """A part of the command; ``self.stdout`` and ``self.style`` are the command's."""
