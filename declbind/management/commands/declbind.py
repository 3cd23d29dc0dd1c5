"""``manage.py declbind VERB``: look at the bindings, check, plan and apply them, watch what they do.

The exit status is 1 when something is wrong and 0 otherwise. What each verb finds out is in ``declbind/console``; here
are the arguments and the print-out.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, connections

from declbind.conf import settings
from declbind.console import doctor, overview, plan, preview, tail
from declbind.console.output import format_count, format_json, format_line, format_pairs, format_table
from declbind.core.errors import ConfigError
from declbind.outbound import history, log, relay
from declbind.registry import database_alias

SIGNS = {"add": "+", "change": "~", "remove": "-", "keep": "="}


class Command(BaseCommand):
    """Run one verb."""

    help = "Look at the bindings, check, plan and apply them, watch what they do."
    # What is wrong is what several verbs are there to say, in their own way.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

        def add(verb: str, text: str, formats: bool = True) -> CommandParser:
            added: CommandParser = verbs.add_parser(verb, help=text, description=text)
            added.add_argument("--database", choices=list(connections), help="where the records and the log are")
            if formats:
                added.add_argument("--format", choices=["text", "json"], default="text")
            # Django reads these before the verb; people write them after it.
            for option in ("--settings", "--pythonpath", "-v", "--verbosity"):
                added.add_argument(option, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
            for option in ("--traceback", "--no-color", "--force-color"):
                added.add_argument(option, action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
            return added

        add("list", "List the bindings of every source.")
        show = add("show", "Show all there is to know of one binding.")
        show.add_argument("stream")
        add("check", "Judge every binding of every source; status 1 when one is invalid.")
        for verb, text in (
            ("plan", "Show what apply would change in the database."),
            ("apply", "Store the records of a file in the database, all or none."),
        ):
            added = add(verb, text)
            added.add_argument("path", type=Path, help="a file of records, or a folder with *.json")
            added.add_argument("--prune", action="store_true", help="remove the database's records that are not there")
            if verb == "apply":
                added.add_argument("--plan", default="", help="refuse unless the plan is still this one (its hash)")
                added.add_argument("--note", default="", help="why, for the revisions")
                added.add_argument("--user", default="", help="who, for the revisions: a user's name")
        export = add("export", "Write records as JSON that apply takes back: all of the database.", formats=False)
        export.add_argument("streams", nargs="*", metavar="stream", help="only these, of any source")
        shown = add("preview", "Show the frame of a row, its groups, and who may see it.")
        shown.add_argument("stream")
        shown.add_argument("pk")
        shown.add_argument("--user", default="", help="a user's name or primary key; default: an anonymous visitor")
        examine = add("doctor", "Examine the running set-up; status 1 when something is bad.")
        examine.add_argument(
            "--after-restore",
            action="store_true",
            help="first begin a new history of the log: the database was restored, and every client must look anew",
        )
        follow = add("tail", "Print events as they come.")
        follow.add_argument("--since", type=int, metavar="OFFSET", help="begin after this offset; 0 for all there are")
        follow.add_argument("--stream", help="only this stream (and what concerns all)")
        follow.add_argument("--limit", type=int, metavar="N", help="end after N events or rows")
        follow.add_argument("--once", action="store_true", help="end when there are no more events")
        follow.add_argument("--values", action="store_true", help="print the data, not only its keys")
        follow.add_argument("--refused", action="store_true", help="print refusals and errors too")
        follow.add_argument(
            "--all", action="store_true", help="print requests and connections too, which are noted while this runs"
        )
        add("relay", "Number and trim the log, until told to stop.", formats=False)

    def handle(self, *args: Any, **options: Any) -> None:
        using = options["database"] or database_alias()
        try:
            is_well = getattr(self, f"run_{options['verb']}")(using, options)
        except ConfigError as error:
            texts = (problem.message if problem.path == "$" else str(problem) for problem in error.problems)
            raise CommandError("\n".join(texts)) from error
        except DatabaseError as error:
            raise CommandError(
                f"Database {using!r} cannot be used: {str(error).strip()}. Does it run, and is it migrated?"
            ) from error
        except BrokenPipeError:
            # The reader (head, less) has seen enough. Python would complain again when it closes stdout.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
        if not is_well:
            sys.exit(1)

    # Each returns whether all is well.

    def run_list(self, using: str, options: dict[str, Any]) -> bool:
        """Print one line for each binding."""
        states = overview.load_states(using)
        if options["format"] == "json":
            self.stdout.write(format_json([state.as_json() for state in states]))
        else:
            rows = [(state.stream or "?", state.state, state.model, state.source, state.where) for state in states]
            self.stdout.write(format_table(("stream", "state", "model", "source", "where"), rows))
        return True

    def run_show(self, using: str, options: dict[str, Any]) -> bool:
        """Print all there is to know of one binding."""
        states = overview.find_states(overview.load_states(using), options["stream"])
        described = [overview.describe(state) for state in states]
        if options["format"] == "json":
            self.stdout.write(format_json(described[0] if len(described) == 1 else described))
            return True
        for about in described:
            record = about.pop("record")
            for key in ("problems", "warnings"):
                about[key] = "\n".join(f"{item['path']}: {item['message']}" for item in about[key]) or "none"
            rules = about.get("permissions", {})
            about.update({f"may {action}": rules[action] for action in about.pop("permissions", {})})
            self.stdout.write(format_pairs(about))
            self.stdout.write(format_json(record))
        return True

    def run_check(self, using: str, options: dict[str, Any]) -> bool:
        """Print every problem and warning with its place."""
        states = overview.load_states(using)
        invalid = [state for state in states if state.problems]
        if options["format"] == "json":
            self.stdout.write(format_json({"ok": not invalid, "bindings": [state.as_json() for state in states]}))
            return not invalid
        for state in states:
            for problem in state.problems:
                self.stdout.write(self.style.ERROR(f"error    {state.where}: {problem}"))
            for problem in state.warnings:
                self.stdout.write(self.style.WARNING(f"warning  {state.where}: {problem}"))
        sound = len(states) - len(invalid)
        self.stdout.write(f"{sound} of {format_count(len(states), 'binding')} valid.")
        return not invalid

    def run_plan(self, using: str, options: dict[str, Any]) -> bool:
        """Print what would change, and the hash to apply exactly that with."""
        made = plan.make_plan(options["path"], using, options["prune"])
        self.print_plan(made, options)
        if not made.faults and options["format"] == "text":
            self.stdout.write(f"plan {made.digest}")
        return not made.faults

    def run_apply(self, using: str, options: dict[str, Any]) -> bool:
        """Store the records, and print what changed."""
        done = plan.apply_path(
            options["path"],
            using,
            prune=options["prune"],
            expected=options["plan"],
            author=preview.load_user(options["user"]) if options["user"] else None,
            note=options["note"],
        )
        if done.faults and options["format"] == "text":
            raise CommandError("\n".join(["Nothing was stored.", *map(str, done.faults)]))
        self.print_plan(done, options)
        if options["format"] == "text":
            self.stdout.write(f"The configuration is at version {done.version}.")
        return not done.faults

    def print_plan(self, made: plan.Plan, options: dict[str, Any]) -> None:
        """Print the changes key by key and how many of each kind, or what is wrong."""
        if options["format"] == "json":
            self.stdout.write(format_json(made.as_json()))
            return
        if made.faults:
            self.stderr.write("\n".join(map(str, made.faults)), self.style.ERROR)
            self.stderr.write(f"{format_count(len(made.faults), 'problem')}: apply would store nothing.")
            return
        for change in made.changes:
            self.stdout.write(f"{SIGNS[change.action]} {change.stream}  ({change.where})")
            if change.action == "keep":
                continue
            rows = {
                f"    {key}": f"{format_line(old)} -> {format_line(new)}" if change.action == "change" else
                format_line(new if old is None else old)
                for key, old, new in change.differences
                if key != "stream"
            }  # fmt: skip
            self.stdout.write(format_pairs(rows))
        self.stdout.write(
            f"{made.count('add')} to add, {made.count('change')} to change, {made.count('remove')} to remove, "
            f"{made.count('keep')} unchanged."
        )

    def run_export(self, using: str, options: dict[str, Any]) -> bool:
        """Print records as a JSON list."""
        self.stdout.write(format_json(overview.load_export(options["streams"], using)))
        return True

    def run_preview(self, using: str, options: dict[str, Any]) -> bool:
        """Print what clients would get for a row."""
        states = overview.find_states(overview.load_states(using), options["stream"])
        if states[0].binding is None or states[0].problems:
            raise ConfigError(states[0].problems)
        made = preview.make_preview(states[0].binding, options["pk"], preview.load_user(options["user"]))
        if options["format"] == "json":
            self.stdout.write(format_json(made.as_json()))
            return True
        if states[0].state == "off":
            self.stdout.write("The binding is disabled: nobody gets this now.")
        self.stdout.write(
            format_pairs(
                {
                    "frame": made.frame or "none: the binding makes no payload for this row",
                    "groups": made.groups or "none: nobody hears of this row",
                    "may view": made.view,
                }
            )
        )
        for verdict in made.verdicts:
            may = "may see it" if verdict.allowed else "may not see it"
            asked = f" with params {format_line(verdict.params)}" if verdict.params is not None else ""
            self.stdout.write(f"{made.user} {may} in group {verdict.group}{asked}: {verdict.reason}.")
        return True

    def run_doctor(self, using: str, options: dict[str, Any]) -> bool:
        """Print what was examined, and what to do."""
        if options["after_restore"]:
            history.renew_epoch(using, history.ensure_head(using).epoch)
        findings = doctor.examine(using)
        is_well = all(finding.ok for finding in findings)
        if options["format"] == "json":
            self.stdout.write(format_json({"ok": is_well, "findings": [finding.as_json() for finding in findings]}))
            return is_well
        styles = {"ok": self.style.SUCCESS, "note": self.style.WARNING, "bad": self.style.ERROR}
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            level = styles[finding.level](finding.level.ljust(4))
            self.stdout.write(f"{level}  {finding.name.ljust(width)}  {finding.meaning}")
            if finding.action:
                self.stdout.write(f"{'':4}  {'':{width}}  -> {finding.action}")
        return is_well

    def run_tail(self, using: str, options: dict[str, Any]) -> bool:
        """Print one line for each event, until interrupted."""

        kinds = tail.ALL if options["all"] else tail.REFUSED if options["refused"] else ()

        def wait() -> bool:
            if options["once"]:
                return False
            if options["all"]:
                tail.renew_watch(using)
            time.sleep(settings.POLL_SECONDS)
            return True

        head = log.load_head(using)
        since = options["since"]
        if since is not None and 0 < since < head.min_offset - 1:
            self.stderr.write(f"The events up to {head.min_offset - 1} are no longer kept.")
        with contextlib.suppress(KeyboardInterrupt):
            found = tail.follow(
                using, since=since, stream=options["stream"], limit=options["limit"], kinds=kinds, wait=wait
            )
            for item in found:
                if options["format"] == "json":
                    self.stdout.write(format_line(tail.as_json(item, options["values"])))
                else:
                    self.stdout.write(tail.format_item(item, options["values"]))
                self.stdout.flush()
        return True

    def run_relay(self, using: str, options: dict[str, Any]) -> bool:
        """Number and trim the log until SIGTERM or SIGINT; the batch under way is finished."""
        log.load_head(using)  # says so now when the table is not there
        with stopped_by_signals() as stop:
            self.stdout.write(f"The relay of database {using!r} runs; stop it with Ctrl-C or SIGTERM.")
            self.stdout.flush()
            relay.run_for_ever(using, stop)
        self.stdout.write("The relay has stopped.")
        return True


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """Give an event that SIGTERM and SIGINT set while the block runs. Outside of the main thread nothing sets it."""
    stop = threading.Event()

    def on_signal(number: int, frame: object) -> None:
        # Not here: the signal may have come while this very thread holds the lock inside of the event.
        threading.Thread(target=stop.set).start()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, action in before.items():
            signal.signal(number, action)
