"""The verbs about one row: preview, try, why, forget."""

from __future__ import annotations

import sys

from declbind.console import assignments, erasure, overview, preview, trial, why
from declbind.console.output import format_json, format_line, format_pairs
from declbind.console.times import format_distance, parse_time
from declbind.console.why.events import describe_event
from declbind.core.errors import ConfigError

from . import Add, Options, VerbGroup


class RowVerbs(VerbGroup):
    """The verbs about one row: preview, try, why, forget."""

    def add_rows(self, add: Add) -> None:
        """Add the verbs and their arguments."""
        shown = add("preview", "Show the frame of a row, its groups, and whether a user may see it.")
        shown.add_argument("stream")
        shown.add_argument("pk")
        shown.add_argument("--user", default="", help="a user's name or primary key; default: an anonymous visitor")
        asked = add(
            "why",
            "Explain why a change of a row arrived or not. The exit status is 0 if it was certainly sent, 1 if it was "
            "certainly not, 3 if the first answer is only likely, and 4 if it cannot be told.",
        )
        asked.add_argument("stream")
        asked.add_argument("row", nargs="?", default="", help="the key of the row")
        asked.add_argument("--user", default="", help="a user's name or primary key, or anonymous; default: all users")
        asked.add_argument(
            "--at",
            default="",
            help="about when, such as 2026-05-17T14:01+00:00 or without an offset in the site's time zone",
        )
        asked.add_argument("--offset", type=int, help="the change at this offset")
        asked.add_argument("--connection", default="", help="one connection")
        forgotten = add(
            "forget", "Erase what declbind has stored about a row or a user, and send subscribers a resync."
        )
        forgotten.add_argument("model", nargs="?", default="", help="the model, as app_label.ModelName")
        forgotten.add_argument("pk", nargs="?", default="", help="the key of the row, which may no longer exist")
        forgotten.add_argument(
            "--user", default="", help="a user's name or primary key; also erases this user's traces"
        )
        self._add_try(add)

    def _add_try(self, add: Add) -> None:
        tried = add("try", "Try a user's action or a change without effect; exit with status 1 if it is refused.")
        tried.add_argument("stream", help='the stream to try; "" for every stream in force')
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
        tried.add_argument(
            "--params", metavar="JSON", help="the params of the subscription; default: derived from the row"
        )
        tried.add_argument("--revision", type=int, metavar="N", help="try the definition of this revision")
        tried.add_argument("--if-enabled", action="store_true", help="try a disabled binding as if it were enabled")
        tried.add_argument(
            "--carry-out",
            action="store_true",
            help="store the row and roll it back; mail, tasks and other effects outside the database cannot be undone",
        )

    def run_preview(self, using: str, options: Options) -> bool:
        """Print what clients would receive for a row."""
        states = overview.find_states(overview.load_states(using), options["stream"])
        if states[0].binding is None or states[0].problems:
            raise ConfigError(states[0].problems)
        made = preview.make_preview(states[0].binding, options["pk"], preview.load_user(options["user"]))
        if options["format"] == "json":
            self.stdout.write(format_json(made.as_json()))
            return True
        if states[0].state == "off":
            self.stdout.write("The binding is disabled: nothing is sent now.")
        self.stdout.write(
            format_pairs(
                {
                    "frame": made.frame or "none: the binding makes no payload for this row",
                    "groups": made.groups or "none: this row is sent to no group",
                    "may view": made.view,
                }
            )
        )
        if made.warning:
            self.stdout.write(self.style.WARNING(made.warning))
        for verdict in made.verdicts:
            may = "may see it" if verdict.allowed else "may not see it"
            asked = f" with params {format_line(verdict.params)}" if verdict.params is not None else ""
            self.stdout.write(f"{made.user} {may} in group {verdict.group}{asked}: {verdict.reason}.")
        return True

    def run_forget(self, using: str, options: Options) -> bool:
        """Erase what is stored about a row or a user, and print what was erased."""
        model, pk, user = options["model"], options["pk"], options["user"]
        if bool(user) is bool(model) or bool(model) is not bool(pk):
            raise ConfigError("Expected a model and the key of a row, or --user.")
        erased = erasure.forget_user(preview.load_user(user), using) if user else erasure.forget_row(model, pk, using)
        if options["format"] == "json":
            self.stdout.write(format_json(erased.as_json()))
            return True
        self.stdout.write(
            format_pairs(
                {
                    "erased": ", ".join(f"{count} in {table}" for table, count in erased.counts.items()) or "nothing",
                    "sent a resync": ", ".join(erased.streams) or "nobody",
                }
            )
        )
        return True

    def run_why(self, using: str, options: Options) -> bool:
        """Print the answers, the most relevant one first."""
        at = parse_time(options["at"]) if options["at"] else None
        if (options["at"] and at is None) or not (options["row"] or options["offset"] is not None):
            raise ConfigError("Expected the key of a row or --offset, and with --at a time such as 2026-05-17T14:01.")
        found = why.explain(
            why.Question(
                options["stream"], options["row"], options["user"], at, options["offset"], options["connection"]
            ),
            using,
        )
        if options["format"] == "json":
            self.stdout.write(format_json(found.as_json()))
        else:
            for what, event in (("before", found.before), ("the change", found.event), ("after", found.after)):
                if event is not None and not (what != "the change" and event == found.event):
                    far = f", {format_distance(event.created_at - at)} from the time asked" if at is not None else ""
                    self.stdout.write(f"{what}: {describe_event(event)}{far}")
            for answer in found.answers:
                self.stdout.write(f"{answer.cause.code} ({answer.certainty.value}): {answer.cause.value.title}")
                lines = {"": answer.text, **dict(answer.shown_evidence)}
                if answer.settle:
                    lines["missing" if answer.certainty is why.Certainty.CANNOT_TELL else "to settle it"] = (
                        answer.settle
                    )
                step = why.find_step(answer, found.question)
                self.stdout.write(format_pairs({**lines, "to do": answer.remedy, "next": step.command}))
        if found.exit_status > 1:
            sys.exit(found.exit_status)
        return found.exit_status == 0

    def run_try(self, using: str, options: Options) -> bool:
        """Print each step of a trial with its verdict, and the frames that would be sent."""
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
