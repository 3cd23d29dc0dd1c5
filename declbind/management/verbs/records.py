"""The verbs for binding records: list, show, check, plan, apply, accept, export, history, rollback."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from django.core.management.base import CommandError, CommandParser

from declbind import growth
from declbind.console import export, openings, overview, plan, preview
from declbind.console import history as edits
from declbind.console.documents import Difference
from declbind.console.output import format_count, format_json, format_line, format_pairs, format_table
from declbind.core.errors import ConfigError
from declbind.models import editing

from . import Add, Options, VerbGroup

SIGNS = {"add": "+", "change": "~", "remove": "-", "keep": "="}


def _states(state: overview.BindingState) -> Iterator[str]:
    yield state.state
    if state.faults:
        yield "misses writes"
    if state.waiting:
        yield f"new: {' '.join(state.waiting)}"


class RecordVerbs(VerbGroup):
    """The verbs for binding records: list, show, check, plan, apply, export, history, rollback."""

    def add_records(self, add: Add) -> None:
        """Add the verbs and their arguments."""

        def by_whom(added: CommandParser) -> None:
            added.add_argument("--note", default="", help="a reason, stored in the revisions")
            added.add_argument("--user", default="", help="the author of the revisions: a user's name")

        add("list", "List the bindings of every source.")
        show = add("show", "Show everything known about one binding.")
        show.add_argument("stream")
        add("check", "Validate every binding of every source; exit with status 1 if one is invalid.")
        for verb, text in (
            ("plan", "Show what apply would change in the database."),
            ("apply", "Store the records of a file in the database, all or none."),
        ):
            added = add(verb, text)
            added.add_argument("path", type=Path, help="a file of records, or a folder with *.json")
            added.add_argument(
                "--prune", action="store_true", help="remove the database's records that the file or folder lacks"
            )
            if verb == "apply":
                added.add_argument("--plan", default="", help="refuse unless the plan still has this hash")
                added.add_argument(
                    "--yes", action="store_true", help="do not ask for confirmation if the plan opens something"
                )
                by_whom(added)
        accepted = add("accept", "Send the fields that were added to a model after its binding was first in force.")
        accepted.add_argument("stream")
        accepted.add_argument("--yes", action="store_true", help="do not ask for confirmation")
        by_whom(accepted)
        exported = add("export", "Write records as JSON for apply; by default all records of the database.")
        exported.add_argument("streams", nargs="*", metavar="stream", help="only these, of any source")
        history = add("history", "List the edits of a binding: author, time, reason and the change of each key.")
        history.add_argument("stream")
        history.add_argument("--limit", type=int, metavar="N", default=edits.SHOWN_STEPS, help="only the last N")
        back = add("rollback", "Restore a record as of a version, as a new revision.")
        back.add_argument("stream")
        back.add_argument("version", type=int, help="a version that history lists")
        by_whom(back)

    def run_list(self, using: str, options: Options) -> bool:
        """Print one line for each binding."""
        states = overview.load_states(using)
        if options["format"] == "json":
            self.stdout.write(format_json([state.as_json() for state in states]))
        else:
            rows = [
                (
                    state.stream or "?",
                    ", ".join(_states(state)),
                    state.model,
                    state.source,
                    f"{state.where}, {state.drift.text}" if state.drift else state.where,
                )
                for state in states
            ]
            self.stdout.write(format_table(("stream", "state", "model", "source", "where"), rows))
        return True

    def run_show(self, using: str, options: Options) -> bool:
        """Print everything known about one binding."""
        states = overview.find_states(overview.load_states(using), options["stream"])
        described = [overview.describe(state, using) for state in states]
        if options["format"] == "json":
            self.stdout.write(format_json(described[0] if len(described) == 1 else described))
            return True
        for state, about in zip(states, described, strict=True):
            record = about.pop("record")
            del about["misses"]  # gaps are printed below
            about["drift"] = state.drift.text if state.drift else "none"
            for key in ("problems", "warnings"):
                about[key] = "\n".join(f"{item['path']}: {item['message']}" for item in about[key]) or "none"
            about["unseen"] = (
                "\n".join(f"{gap['text']} {gap['action']}" for gap in about.get("unseen", ())) or "nothing"
            )
            rules = about.get("permissions", {})
            about.update({f"may {action}": rules[action] for action in about.pop("permissions", {})})
            self.stdout.write(format_pairs(about))
            self.stdout.write(format_json(record))
        return True

    def run_check(self, using: str, options: Options) -> bool:
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

    def run_plan(self, using: str, options: Options) -> bool:
        """Print the changes that a plan would make, and the hash with which exactly that plan can be applied."""
        made = plan.make_plan(options["path"], using, options["prune"])
        self.print_plan(made, options)
        if not made.faults and options["format"] == "text":
            self.stdout.write(f"plan {made.digest}")
        return not made.faults

    def run_apply(self, using: str, options: Options) -> bool:
        """Store the records, and print what changed.

        If the plan opens something, ask first, unless ``--yes`` is given.
        """
        done = plan.apply_path(
            options["path"],
            using,
            prune=options["prune"],
            expected=options["plan"] if options["yes"] else self.confirm_plan(using, options),
            author=preview.load_user(options["user"]) if options["user"] else None,
            note=options["note"],
        )
        if done.faults and options["format"] == "text":
            raise CommandError("\n".join(["Nothing was stored.", *map(str, done.faults)]))
        growth.store_missing(using)
        self.print_plan(done, options)
        if options["format"] == "text":
            self.stdout.write(f"The configuration is at version {done.version}.")
        return not done.faults

    def confirm_plan(self, using: str, options: Options) -> str:
        """If a plan opens something, print what it does in the words of the import page, and ask for confirmation.

        Returns:
            The hash of the confirmed plan.

        Raises:
            CommandError: The user did not confirm.
        """
        made = plan.make_plan(options["path"], using, options["prune"])
        described = [(change, openings.describe_change(change)) for change in made.edits]
        if made.faults or not any(item.opens for change, items in described for item in items if change.after):
            # Without a question, the plan need not stay as it was printed.
            return str(options["plan"])
        if options["format"] == "json":
            raise ConfigError(
                "This gives more access than before, and `--format json` cannot ask for confirmation. Repeat the "
                "command with --yes."
            )
        for change, items in described:
            self.stdout.write(f"{SIGNS[change.action]} {change.stream}")
            for item in items:
                self.stdout.write(f"    {item.sign} {item.text}{'  (gives more access)' if item.widens else ''}")
        self.ask()
        return str(options["plan"] or made.digest)

    def print_opened(self, stream: str, texts: Iterable[str]) -> None:
        """Print what a plan opens in a stream."""
        self.stdout.write(f"{stream} gives more access:")
        for text in texts:
            self.stdout.write(f"    + {text}")

    def ask(self) -> None:
        """Ask for confirmation of what was printed.

        Raises:
            ConfigError: The user did not confirm.
        """
        try:
            answer = input("This gives more access than before. Store it? [y/N] ")
        except (EOFError, OSError, RuntimeError) as error:  # the last line if a program has no stdin at all
            raise ConfigError(
                "Expected an answer to whether to store this, and there is nobody to ask: the standard "
                "input is closed or empty. Nothing was stored. Repeat it with --yes."
            ) from error
        if answer.strip().lower() not in ("y", "yes"):
            raise ConfigError("Nothing was stored.")

    def run_accept(self, using: str, options: Options) -> bool:
        """Accept the waiting fields of a binding. Ask first, unless ``--yes`` is given."""
        state = overview.find_states(overview.load_states(using), options["stream"])[0]
        if state.binding is None:
            raise ConfigError(f"Binding {options['stream']!r} is not in force: see `manage.py declbind check`.")
        names, texts = state.binding.held_names(), growth.describe_held(state.binding)
        if names and not options["yes"]:
            if options["format"] == "json":
                raise ConfigError(
                    "This gives more access, which `--format json` cannot ask about. Repeat it with --yes."
                )
            self.print_opened(state.stream, texts)
            self.ask()
        if names:
            author = preview.load_user(options["user"]) if options["user"] else None
            with editing(author, options["note"] or f"Accepted the new fields {', '.join(names)}."):
                growth.accept(state.binding, names, using)
        if options["format"] == "json":
            self.stdout.write(format_json({"ok": True, "stream": state.stream, "accepted": names}))
        elif names:
            self.stdout.write(f"Binding {state.stream!r} {'; '.join(texts)}.")
        else:
            self.stdout.write(f"Binding {state.stream!r} has no new fields. Nothing was stored.")
        return True

    def print_plan(self, made: plan.Plan, options: Options) -> None:
        """Print the changes key by key and the number of each kind, or the problems."""
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

    def run_export(self, using: str, options: Options) -> bool:
        """Print records as a JSON list."""
        records = export.load_export(options["streams"], using)
        self.stdout.write(export.format_export(records), ending="")
        return True

    def run_history(self, using: str, options: Options) -> bool:
        """Print the edits of a binding, newest first."""
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

    def run_rollback(self, using: str, options: Options) -> bool:
        """Store an old version again, and print what changed."""
        revision = edits.find_revision(options["stream"], options["version"], using)
        author = preview.load_user(options["user"]) if options["user"] else None
        record = edits.roll_back(revision, using, author, options["note"])
        [step] = edits.load_history(options["stream"], using, 1)
        if options["format"] == "json":
            self.stdout.write(format_json({"ok": True, "changed": record is not None, **step.as_json()}))
        elif record is None:
            self.stdout.write(f"Binding {options['stream']!r} already has this definition. Nothing was stored.")
        else:
            self.print_differences(step.differences, both=step.verb == "changed")
            self.stdout.write(f"The configuration is at version {step.version}.")
        return True

    def print_differences(self, differences: Iterable[Difference], *, both: bool) -> None:
        """Print one line for each key: its old and its new value, or the one that exists."""
        rows = {
            f"    {key}": f"{format_line(old)} -> {format_line(new)}"
            if both
            else format_line(new if old is None else old)
            for key, old, new in differences
            if key != "stream"
        }
        self.stdout.write(format_pairs(rows))
