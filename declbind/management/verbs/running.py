"""The verbs for what is running: connections, kick, processes, doctor, tail, relay."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

from declbind.conf import settings
from declbind.console import connections as connection_list
from declbind.console import doctor, preview, processes, tail, unseen
from declbind.console.output import format_count, format_json, format_line, format_table
from declbind.console.times import format_time
from declbind.core.errors import ConfigError
from declbind.django_types import User
from declbind.inbound import blocks
from declbind.inbound.revocation import kick
from declbind.outbound import history, log, relay

from . import Add, Options, VerbGroup


class RunningVerbs(VerbGroup):
    """The verbs for what is running: connections, kick, processes, doctor, tail, relay."""

    def add_running(self, add: Add) -> None:
        """Add the verbs and their arguments."""
        who = add("connections", "List the connections and their subscriptions.")
        for name in ("user", "stream", "group"):
            who.add_argument(f"--{name}", default="", help=f"only connections of this {name}")
        who.add_argument("--state", choices=["open", "closed", "all"], default="open")
        who.add_argument("--page", type=int, default=1)
        kicked = add("kick", "Disconnect a connection or a user; with --block also block the user.", formats=False)
        kicked.add_argument("--connection", help="one connection")
        kicked.add_argument("--user", default="", help="a user's name or primary key")
        kicked.add_argument(
            "--block", type=int, metavar="SECONDS", help="block the user for this time; 0 lifts a block"
        )
        kicked.add_argument("--reason", default="", help="the reason that is sent to the client")
        examine = add("doctor", "Examine the running installation; exit with status 1 if something is wrong.")
        examine.add_argument(
            "--after-restore",
            action="store_true",
            help="first start a new epoch of the log after a restore of the database; all clients then take a snapshot",
        )
        examine.add_argument(
            "--forget-unseen", action="store_true", help="first clear the recorded writes that left no event"
        )
        add("processes", "List the processes that serve sockets: their configuration, connections and lag.")
        follow = add("tail", "Print events as they occur.")
        follow.add_argument(
            "--since", type=int, metavar="OFFSET", help="start after this offset; 0 for all stored events"
        )
        follow.add_argument("--stream", help="only this stream, and events that concern all streams")
        follow.add_argument(
            "--limit", type=int, metavar="N", help="stop after N events or rows; without --since the last N"
        )
        follow.add_argument("--once", action="store_true", help="stop when there are no more events")
        follow.add_argument("--values", action="store_true", help="print the data, not only its keys")
        follow.add_argument("--refused", action="store_true", help="print refusals and errors too")
        follow.add_argument(
            "--all", action="store_true", help="print requests and connections too, which are recorded while this runs"
        )
        add("relay", "Number and trim the log until stopped.", formats=False)

    def run_connections(self, using: str, options: Options) -> bool:
        """Print one line for each connection of a page."""
        state = "" if options["state"] == "all" else options["state"]
        wanted = connection_list.Wanted(options["user"], options["stream"], options["group"], state=state)
        found = connection_list.load_connections(wanted, using, options["page"])
        if options["format"] == "json":
            content = {"total": found.total, "page": found.page, "pages": found.pages}
            self.stdout.write(format_json({**content, "connections": [row.as_json() for row in found.rows]}))
            return True
        rows = [
            (
                row.id,
                row.who,
                row.login,
                format_time(row.opened_at),
                row.process,
                ", ".join(f"{item.stream}/{item.group}" for item in row.current_subscriptions),
            )
            for row in found.rows
        ]
        self.stdout.write(format_table(("connection", "user", "by", "since", "process", "subscriptions"), rows))
        self.stdout.write(f"Page {found.page} of {found.pages}, {format_count(found.total, 'connection')} in all.")
        return True

    def run_kick(self, using: str, options: Options) -> bool:
        """Disconnect, and set or lift a block."""
        seconds, user = options["block"], preview.load_user(options["user"]) if options["user"] else None
        if (user is None) == (options["connection"] is None) or (seconds is not None and user is None):
            raise ConfigError("Expected either --connection or --user; --block needs --user.")
        if user is not None and seconds is not None:
            self.stdout.write(self._block(user, seconds, options["reason"]))
        else:
            kick(options["connection"], user, options["reason"])
            self.stdout.write("The processes have been asked to close it. Its client may connect again.")
        return True

    @staticmethod
    def _block(user: User, seconds: int, reason: str) -> str:
        if seconds == 0:
            return "The block is lifted." if blocks.unblock(str(user.pk)) else "There is no block."
        try:
            blocks.block(str(user.pk), timedelta(seconds=seconds), username=user.get_username(), reason=reason)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        return f"{user.get_username()} is disconnected and blocked for {seconds} s."

    def run_processes(self, using: str, options: Options) -> bool:
        """Print one line for each process, with its problems below it."""
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
                format_time(item.seen_at),
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

    def run_doctor(self, using: str, options: Options) -> bool:
        """Print the findings, and what to do about them."""
        if options["forget_unseen"]:
            unseen.forget(using)
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

    def run_tail(self, using: str, options: Options) -> bool:
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

    def run_relay(self, using: str, options: Options) -> bool:
        """Number and trim the log until SIGTERM or SIGINT; the current batch is finished first."""
        log.load_head(using)  # fails now if the table is missing
        with stopped_by_signals() as stop:
            self.stdout.write(f"The relay of database {using!r} runs; stop it with Ctrl-C or SIGTERM.")
            if not history.needs_sequencer(using):
                self.stdout.write("It is not needed here: this database numbers its events by itself.")
            elif alive := len(processes.load_processes(using).live):
                self.stdout.write(
                    f"It is not needed while ASGI processes run: {format_count(alive, 'process', 'processes')} number "
                    "the log too."
                )
            self.stdout.flush()
            relay.run_for_ever(using, stop)
        self.stdout.write("The relay has stopped.")
        return True


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM and SIGINT set while the block runs.

    Outside the main thread nothing sets it.
    """
    stop = threading.Event()

    def on_signal(number: int, frame: object) -> None:
        # Do not set the event here: the signal may arrive while this thread holds the lock inside the event.
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
