"""``manage.py declbind VERB``: list, check, plan and apply bindings, and observe them at work.

The exit status is 1 if something is wrong and 0 otherwise. ``declbind/console`` computes the answers of each verb.
``management/verbs`` has the verbs' arguments and output.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any, NoReturn

from django.core.management.base import CommandError, CommandParser, no_translations
from django.db import Error as DatabaseFailure
from django.db import connections

from declbind.console.database_fault import describe_fault, failed_alias
from declbind.console.output import format_json, format_line
from declbind.console.shown import at_a_shell
from declbind.core.errors import ConfigError
from declbind.management.verbs import Options
from declbind.management.verbs.records import RecordVerbs
from declbind.management.verbs.rows import RowVerbs
from declbind.management.verbs.running import RunningVerbs
from declbind.management.verbs.triggers import TriggerVerbs
from declbind.registry import database_alias
from declbind.tenancy import TenantError

#: The verbs that store something: their failures must say what was stored.
EDITING_VERBS = frozenset({"accept", "apply", "rollback", "kick", "forget"})


class Command(RecordVerbs, RowVerbs, RunningVerbs, TriggerVerbs):
    """The ``declbind`` command, which runs one verb."""

    help = "List, check, plan and apply bindings, and watch their events."
    # Several verbs report problems themselves, each in its own way.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

        def add(verb: str, text: str, formats: bool = True) -> CommandParser:
            added: CommandParser = verbs.add_parser(verb, help=text, description=text)
            added.add_argument(
                "--database", choices=list(connections), help="the database that holds the records and the log"
            )
            added.add_argument("--tenant", default="", help="the tenant whose rows to use, on a site with tenants")
            if formats:
                added.add_argument("--format", choices=["text", "json"], default="text")
            # Django reads these options before the verb; users type them after it.
            for option in ("--settings", "--pythonpath", "-v", "--verbosity"):
                added.add_argument(option, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
            for option in ("--traceback", "--no-color", "--force-color"):
                added.add_argument(option, action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
            return added

        self.add_records(add)
        self.add_rows(add)
        self.add_running(add)
        self.add_triggers(add)

    @no_translations
    def handle(self, *args: object, **options: Any) -> None:
        """Run the verb. Its output is English whatever ``LANGUAGE_CODE`` is, so that scripts can rely on it.

        With ``--format json`` a failure is JSON on stdout too: ``{"ok": false, "error": ...}``.
        """
        using = options["database"] or database_alias()
        try:
            with at_a_shell(options["tenant"]):
                is_well = getattr(self, f"run_{options['verb']}")(using, options)
        except TenantError as error:
            self.fail(f"{error} Name the tenant with --tenant.", options, error)
        except ConfigError as error:
            texts = (problem.message if problem.path == "$" else str(problem) for problem in error.problems)
            self.fail("\n".join(texts), options, error)
        except DatabaseFailure as error:
            fault = describe_fault(error, failed_alias(error, using))
            edits = options["verb"] in EDITING_VERBS or bool(options.get("install") or options.get("remove"))
            self.fail(f"{fault} {fault.outcome}" if edits else str(fault), options, error)
        except BrokenPipeError:
            # The reader (head, less) has closed the pipe. Python would fail again when it closes stdout.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
        if not is_well:
            sys.exit(1)

    def fail(self, text: str, options: Options, error: Exception) -> NoReturn:
        """Exit with status 1 and print the error, for people or as JSON."""
        if options.get("format") != "json":
            raise CommandError(text) from error
        # tail is read line by line.
        write = format_line if options["verb"] == "tail" else format_json
        self.stdout.write(write({"ok": False, "error": text}))
        sys.exit(1)
