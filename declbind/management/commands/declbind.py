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
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, connections
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from declbind.conf import settings
from declbind.console import assignments, doctor, export, overview, plan, preview, processes, tail, trial, why
from declbind.console import connections as attendance
from declbind.console import history as edits
from declbind.console.causes import Cause
from declbind.console.documents import Difference
from declbind.console.output import format_count, format_json, format_line, format_pairs, format_table
from declbind.core.errors import ConfigError
from declbind.inbound import blocks
from declbind.inbound.revocation import kick
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

        def by_whom(added: CommandParser) -> None:
            added.add_argument("--note", default="", help="why, for the revisions")
            added.add_argument("--user", default="", help="who, for the revisions: a user's name")

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
                by_whom(added)
        exported = add("export", "Write records as JSON that apply takes back: all of the database.")
        exported.add_argument("streams", nargs="*", metavar="stream", help="only these, of any source")
        told = add("history", "Tell the edits of a binding: who, when, why, and what became of each key.")
        told.add_argument("stream")
        told.add_argument("--limit", type=int, metavar="N", default=edits.SHOWN_STEPS, help="only the last N")
        back = add("rollback", "Store again what a record said at a version, as a new revision.")
        back.add_argument("stream")
        back.add_argument("version", type=int, help="a version that history names")
        by_whom(back)
        shown = add("preview", "Show the frame of a row, its groups, and who may see it.")
        shown.add_argument("stream")
        shown.add_argument("pk")
        shown.add_argument("--user", default="", help="a user's name or primary key; default: an anonymous visitor")
        asked = add("why", "Say why a change of a row arrived or did not; status 1 when it was not sent.")
        asked.add_argument("stream")
        asked.add_argument("row", nargs="?", default="", help="the key of the row")
        asked.add_argument("--user", default="", help="a user's name or primary key, or anonymous; default: anybody")
        asked.add_argument("--at", default="", help="about when, as 2026-05-17T14:01+00:00 or in the site's time zone")
        asked.add_argument("--offset", type=int, help="the change at this offset")
        asked.add_argument("--connection", default="", help="one connection")
        who = add("connections", "List who is connected, and what they hear.")
        for name in ("user", "stream", "group"):
            who.add_argument(f"--{name}", default="", help=f"only of this {name}")
        who.add_argument("--state", choices=["open", "closed", "all"], default="open")
        who.add_argument("--page", type=int, default=1)
        kicked = add("kick", "Disconnect a connection or all of a user; with --block keep the user out.", formats=False)
        kicked.add_argument("--connection", help="one connection")
        kicked.add_argument("--user", default="", help="a user's name or primary key")
        kicked.add_argument(
            "--block", type=int, metavar="SECONDS", help="keep the user out for so long; 0 ends a block"
        )
        kicked.add_argument("--reason", default="", help="what the client is told")
        tried = add("try", "Try what a user may do or what a change sends, without doing it; status 1 when refused.")
        tried.add_argument("stream", help='the stream to try; "" for every one in force')
        tried.add_argument("--action", choices=[*trial.ACTIONS, *trial.ALIASES], default="view")
        tried.add_argument("--pk", default="", help="the row's key")
        tried.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="FIELD=VALUE",
            dest="assignments",
            help="a value, JSON or text",
        )
        tried.add_argument("--data", default="", metavar="JSON", help="all values, as a JSON object")
        tried.add_argument("--user", default="", help="a user's name or primary key; default: an anonymous visitor")
        tried.add_argument("--params", metavar="JSON", help="of the subscription; default: worked out from the row")
        tried.add_argument("--revision", type=int, metavar="N", help="under the definition of this revision")
        tried.add_argument("--if-enabled", action="store_true", help="try a disabled binding as if it were enabled")
        tried.add_argument(
            "--carry-out",
            action="store_true",
            help="store the row and roll it back; mail, tasks and what else leaves the database is not taken back",
        )
        examine = add("doctor", "Examine the running set-up; status 1 when something is bad.")
        examine.add_argument(
            "--after-restore",
            action="store_true",
            help="first begin a new history of the log: the database was restored, and every client must look anew",
        )
        add("processes", "List the processes that serve sockets: their configuration, connections and lag.")
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
        """Run the verb. With ``--format json`` a failure is JSON too, on stdout: ``{"ok": false, "error": ...}``."""
        using = options["database"] or database_alias()
        try:
            is_well = getattr(self, f"run_{options['verb']}")(using, options)
        except ConfigError as error:
            texts = (problem.message if problem.path == "$" else str(problem) for problem in error.problems)
            self.fail("\n".join(texts), options, error)
        except DatabaseError as error:
            text = f"Database {using!r} cannot be used: {str(error).strip()}. Does it run, and is it migrated?"
            self.fail(text, options, error)
        except BrokenPipeError:
            # The reader (head, less) has seen enough. Python would complain again when it closes stdout.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
        if not is_well:
            sys.exit(1)

    def fail(self, text: str, options: dict[str, Any], error: Exception) -> NoReturn:
        """End with status 1 and say why, to people or to a machine."""
        if options.get("format") != "json":
            raise CommandError(text) from error
        # tail is read line by line.
        write = format_line if options["verb"] == "tail" else format_json
        self.stdout.write(write({"ok": False, "error": text}))
        sys.exit(1)

    # Each returns whether all is well.

    def run_list(self, using: str, options: dict[str, Any]) -> bool:
        """Print one line for each binding."""
        states = overview.load_states(using)
        if options["format"] == "json":
            self.stdout.write(format_json([state.as_json() for state in states]))
        else:
            rows = [
                (
                    state.stream or "?",
                    state.state,
                    state.model,
                    state.source,
                    f"{state.where}, {state.drift.text}" if state.drift else state.where,
                )
                for state in states
            ]
            self.stdout.write(format_table(("stream", "state", "model", "source", "where"), rows))
        return True

    def run_show(self, using: str, options: dict[str, Any]) -> bool:
        """Print all there is to know of one binding."""
        states = overview.find_states(overview.load_states(using), options["stream"])
        described = [overview.describe(state) for state in states]
        if options["format"] == "json":
            self.stdout.write(format_json(described[0] if len(described) == 1 else described))
            return True
        for state, about in zip(states, described, strict=True):
            record = about.pop("record")
            about["drift"] = state.drift.text if state.drift else "none"
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
            self.print_differences(change.differences, both=change.action == "change")
        self.stdout.write(
            f"{made.count('add')} to add, {made.count('change')} to change, {made.count('remove')} to remove, "
            f"{made.count('keep')} unchanged."
        )

    def run_export(self, using: str, options: dict[str, Any]) -> bool:
        """Print records as a JSON list."""
        records = export.load_export(options["streams"], using)
        self.stdout.write(export.format_export(records), ending="")
        return True

    def run_history(self, using: str, options: dict[str, Any]) -> bool:
        """Print the edits of a binding, the newest first."""
        steps = edits.load_history(options["stream"], using, max(1, options["limit"]))
        if options["format"] == "json":
            self.stdout.write(format_json([step.as_json() for step in steps]))
            return True
        for step in steps:
            by = step.author or "not known"
            source = f" from {step.source}" if step.source else ""
            note = f": {step.note}" if step.note else ""
            self.stdout.write(
                f"version {step.version}  {step.at:%Y-%m-%d %H:%M:%S %Z}  {step.verb} by {by}{source}{note}"
            )
            self.print_differences(step.differences, both=step.verb == "changed")
        return True

    def run_rollback(self, using: str, options: dict[str, Any]) -> bool:
        """Store an old version again, and print what changed by it."""
        revision = edits.find_revision(options["stream"], options["version"], using)
        author = preview.load_user(options["user"]) if options["user"] else None
        record = edits.roll_back(revision, using, author, options["note"])
        [step] = edits.load_history(options["stream"], using, 1)
        if options["format"] == "json":
            self.stdout.write(format_json({"ok": True, "changed": record is not None, **step.as_json()}))
        elif record is None:
            self.stdout.write(f"Binding {options['stream']!r} says that already. Nothing was stored.")
        else:
            self.print_differences(step.differences, both=step.verb == "changed")
            self.stdout.write(f"The configuration is at version {step.version}.")
        return True

    def run_processes(self, using: str, options: dict[str, Any]) -> bool:
        """Print one line for each process, and what is wrong with it below."""
        found = processes.load_processes(using)
        if options["format"] == "json":
            self.stdout.write(format_json(found.as_json()))
            return True
        rows = [
            (
                item.name,
                "live" if item.is_live else "gone",
                item.version,
                item.digest,
                item.connections,
                item.subscriptions,
                item.lag_text,
                f"{item.seen_at:%Y-%m-%d %H:%M:%S %Z}",
            )
            for item in found.processes
        ]
        headings = ("process", "state", "version", "hash", "connections", "subscriptions", "lag", "seen")
        self.stdout.write(format_table(headings, rows))
        for item in found.processes:
            for text in (item.fault, item.last_error):
                if text:
                    self.stdout.write(self.style.ERROR(f"{item.name}: {text}"))
        self.stdout.write(f"The configuration is at version {found.version}, the log at offset {found.head}.")
        return True

    def print_differences(self, differences: Iterable[Difference], *, both: bool) -> None:
        """Print one line for each key: its old and its new value, or the one that there is."""
        rows = {
            f"    {key}": f"{format_line(old)} -> {format_line(new)}"
            if both
            else format_line(new if old is None else old)
            for key, old, new in differences
            if key != "stream"
        }
        self.stdout.write(format_pairs(rows))

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

    def run_why(self, using: str, options: dict[str, Any]) -> bool:
        """Print the answers, the one that matters most first."""
        at = parse_datetime(options["at"]) if options["at"] else None
        if (options["at"] and at is None) or not (options["row"] or options["offset"] is not None):
            raise ConfigError("Expected the key of a row or --offset, and with --at a time such as 2026-05-17T14:01.")
        if at is not None and timezone.is_naive(at):
            at = timezone.make_aware(at)
        found = why.explain(
            why.Question(
                options["stream"], options["row"], options["user"], at, options["offset"], options["connection"]
            ),
            using,
        )
        if options["format"] == "json":
            self.stdout.write(format_json(found.as_json()))
        else:
            for answer in found.answers:
                self.stdout.write(f"{answer.cause.code}: {answer.cause.value.title}")
                evidence = {what: str(value) for what, value in answer.evidence}
                self.stdout.write(format_pairs({"": answer.text, **evidence, "to do": answer.remedy or "nothing"}))
        return bool(found.answers) and found.answers[0].cause is Cause.SENT

    def run_connections(self, using: str, options: dict[str, Any]) -> bool:
        """Print one line for each connection of a page."""
        state = "" if options["state"] == "all" else options["state"]
        wanted = attendance.Wanted(options["user"], options["stream"], options["group"], state=state)
        found = attendance.load_attendance(wanted, using, options["page"])
        if options["format"] == "json":
            content = {"total": found.total, "page": found.page, "pages": found.pages}
            self.stdout.write(format_json({**content, "connections": [row.as_json() for row in found.rows]}))
            return True
        rows = [
            (
                row.id,
                row.who,
                row.opened_at.isoformat(timespec="seconds"),
                row.process,
                ", ".join(f"{item.stream}/{item.group}" for item in row.hears),
            )
            for row in found.rows
        ]
        self.stdout.write(format_table(("connection", "who", "since", "process", "hears"), rows))
        self.stdout.write(f"Page {found.page} of {found.pages}, {format_count(found.total, 'connection')} in all.")
        return True

    def run_kick(self, using: str, options: dict[str, Any]) -> bool:
        """Disconnect, and block or let in again."""
        seconds, user = options["block"], preview.load_user(options["user"]) if options["user"] else None
        if (user is None) == (options["connection"] is None) or (seconds is not None and user is None):
            raise ConfigError("Expected either --connection or --user; --block needs --user.")
        if user is not None and seconds is not None:
            self.stdout.write(self._block(user, seconds, options["reason"]))
        else:
            kick(options["connection"], user, options["reason"])
            self.stdout.write("The processes are told to close it.")
        return True

    @staticmethod
    def _block(user: Any, seconds: int, reason: str) -> str:
        if seconds == 0:
            return "The block is lifted." if blocks.unblock(str(user.pk)) else "There is no block."
        try:
            blocks.block(str(user.pk), timedelta(seconds=seconds), username=user.get_username(), reason=reason)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        return f"{user.get_username()} is disconnected and kept out for {seconds} s."

    def run_try(self, using: str, options: dict[str, Any]) -> bool:
        """Print each step of a trial with its verdict, and what would be sent."""
        values = assignments.parse_object(options["data"], "--data") if options["data"] else {}
        values |= assignments.parse_assignments(options["assignments"], "--set")
        made = trial.make_trial(
            trial.Question(
                who=options["user"],
                stream=options["stream"],
                action=options["action"],
                pk=assignments.parse_key(options["pk"]),
                values=values,
                params=None if options["params"] is None else assignments.parse_object(options["params"], "--params"),
                revision=options["revision"],
                as_if_enabled=options["if_enabled"],
                carry_out=options["carry_out"],
            ),
            using,
        )
        self.stdout.write(format_json(made.as_json()) if options["format"] == "json" else made.as_text())
        return made.verdict != trial.REFUSED

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
