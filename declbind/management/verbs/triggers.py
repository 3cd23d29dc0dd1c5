"""The verb for database triggers: triggers."""

from __future__ import annotations

from django.core.management.base import CommandError

from declbind.console.output import format_count, format_json, format_table
from declbind.outbound.triggers import upkeep

from . import Add, Options, VerbGroup


class TriggerVerbs(VerbGroup):
    """The verb for database triggers: triggers."""

    def add_triggers(self, add: Add) -> None:
        """Add the verb and its arguments."""
        added = add(
            "triggers",
            "Manage the triggers of bindings that capture with them; exit with status 1 if a write may be missed.",
        )
        what = added.add_mutually_exclusive_group()
        what.add_argument("--status", action="store_true", help="print the state of each table's triggers (default)")
        what.add_argument(
            "--install", action="store_true", help="install the triggers that bindings need, and remove the others"
        )
        what.add_argument("--remove", action="store_true", help="remove all triggers")
        what.add_argument("--sql", action="store_true", help="print the statements of --install without running them")

    def run_triggers(self, using: str, options: Options) -> bool:
        """Carry out the command, and print the state of each table."""
        try:
            if options["sql"]:
                return self._print_statements(upkeep.install_sql(using), options)
            if options["install"]:
                upkeep.install(using)
            elif options["remove"]:
                upkeep.remove(using)
        except upkeep.UnsupportedError as error:
            raise CommandError(f"Database {using!r} has no declbind triggers: {error}") from error
        states = upkeep.load_states(using)
        is_well = all(state.is_well for state in states)
        if options["format"] == "json":
            content = {
                "ok": is_well,
                "tables": [
                    {
                        "table": state.table,
                        "state": state.state,
                        "unmarked": list(state.unmarked),
                        "streams": list(state.streams),
                    }
                    for state in states
                ],
            }
            self.stdout.write(format_json(content))
        elif states:
            rows = [(state.table, state.state, ", ".join(state.unmarked), ", ".join(state.streams)) for state in states]
            self.stdout.write(format_table(("table", "triggers", "not captured", "streams"), rows))
        else:
            self.stdout.write("No binding captures with database triggers, and no table has declbind triggers.")
        if not is_well and options["format"] == "text":
            wrong = format_count(sum(not state.is_well for state in states), "table")
            self.stdout.write(
                f"{wrong} without the triggers that the bindings need: run `manage.py declbind triggers --install`."
            )
        # The missing triggers were removed on purpose.
        return is_well or bool(options["remove"])

    def _print_statements(self, statements: list[str], options: Options) -> bool:
        if options["format"] == "json":
            self.stdout.write(format_json({"ok": True, "statements": statements}))
        else:
            for statement in statements:
                self.stdout.write(f"{statement};")
        return True
