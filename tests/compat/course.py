"""The course: the steps that a set-up must complete, each of them checked frame by frame.

Each step ends with a note of its own. The frames up to that note must be exactly what the step wrote: none lost,
none invented, in order.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .client import PATIENCE, Change, Feed, Subscriber
from .site_processes import Site

#: The rows of the snapshot that a reader pauses in, and how long it pauses, in seconds.
LINES = 40_000
PAUSE_SECONDS = 3.0


class StepFailed(AssertionError):
    """A failed step of the course; the text names the step."""


class Course:
    """One run on one site. ``lines`` and ``pause`` shorten the step of the paused reader."""

    def __init__(self, site: Site, *, lines: int = LINES, pause: float = PAUSE_SECONDS) -> None:
        self.site, self.lines, self.pause = site, lines, pause
        self._stack = contextlib.ExitStack()
        self._sentinels = 0
        #: Seconds that each step took.
        self.seconds: dict[str, float] = {}

    def run(self) -> None:
        """Do all steps.

        Raises:
            StepFailed: The first step that failed.
        """
        steps: Sequence[Callable[[], None]] = (
            self.connect, self.save, self.move_between_groups, self.update_in_bulk, self.change_lists, self.write_sql,
            self.roll_back, self.delete, self.write_from_a_client, self.look_at_the_console, self.pause_in_a_snapshot,
            self.kill_and_resume, self.take_a_right_away, self.edit_the_record, self.log_out,
            self.shut_down,
        )  # fmt: skip
        with self._stack:
            for step in steps:
                started = time.monotonic()
                try:
                    step()
                except (AssertionError, TimeoutError, RuntimeError, OSError) as error:
                    name = step.__name__.replace("_", " ")
                    raise StepFailed(f"{self.site.cell.name}: {name}: {error}{self.site.log_tails()}") from error
                self.seconds[step.__name__] = time.monotonic() - started

    # --- the steps ----------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Connect three clients: an anonymous one, a user, and one that negotiates batches of frames."""
        perform = self.site.perform
        perform("fill", count=self.lines)
        perform("add_user", name=self.user, codenames=["add_note", "change_note", "delete_note", "view_note"])
        self.stranger = self._subscriber("stranger")
        self.visitor = self._subscriber("user", cookie=self.site.log_in(self.user))
        self.batched = self._subscriber("batched", joined=True, number=1)
        self.all_notes = self.stranger.subscribe("notes")
        self.readings = self.stranger.subscribe("readings")
        self.room = self.visitor.subscribe("notes", room=1)
        self.secrets = self.visitor.subscribe("secrets")
        self.batches = self.batched.subscribe("notes")
        assert not self.all_notes.rows
        refused = self.stranger.request("secrets", "subscribe", params={}, snapshot=True)
        assert refused["ok"] is False, "a stranger may not view secrets"
        assert refused["error"]["code"] == "denied"

    def save(self) -> None:
        """Save a new note: every client with the permission gets it."""
        mark = self._mark()
        self.first = self.site.perform("add", room=1, text="first")
        self._expect(mark, [("create", self.first)], in_room=True)
        assert self.all_notes.rows[self.first] == {"room": 1, "text": "first", "tags": []}

    def move_between_groups(self) -> None:
        """Save a note in another room: the old room gets a delete without the new values."""
        mark = self._mark()
        self.site.perform("move", pk=self.first, room=2)
        self._expect(mark, [("update", self.first)], in_room=[("delete", self.first)])
        self.site.perform("move", pk=self.first, room=1)
        self._expect(mark, [("update", self.first)] * 2, in_room=[("delete", self.first), ("create", self.first)])

    def update_in_bulk(self) -> None:
        """Write by `bulk_create`, `update` and `bulk_update`."""
        mark = self._mark()
        self.site.perform("bulk_add", room=1, texts=["a", "b", "c"])
        sentinel = self._sentinel()
        self.stranger.wait_for_change(self.all_notes, ("create", sentinel), mark[0])
        added = [pk for action, pk in self.all_notes.changes[mark[0] :] if pk != sentinel]
        assert sorted(self.all_notes.rows[pk]["text"] for pk in added) == ["a", "b", "c"], self.all_notes.changes
        mark = self._mark()
        assert self.site.perform("update", pks=added, text="updated") == 3
        self.site.perform("bulk_change", pks=added, text="changed")
        changes: list[Change] = [("update", pk) for pk in added]
        self._expect(mark, changes * 2, in_room=True)
        assert [self.all_notes.rows[pk]["text"] for pk in sorted(added)] == ["changed 0", "changed 1", "changed 2"]
        self.others = added

    def change_lists(self) -> None:
        """Set a many-to-many field: one change with the whole list."""
        mark = self._mark()
        tags = self.site.perform("tag", pk=self.first, words=["red", "blue"])
        self._expect(mark, [("update", self.first)], in_room=True)
        assert sorted(self.all_notes.rows[self.first]["tags"]) == tags

    def write_sql(self) -> None:
        """Write by raw SQL: triggers report it if the database supports them, else the project announces it."""
        start = len(self.readings.changes)
        added = self.site.perform("write_sql", values=[10, 20], announce=not self.site.cell.has_triggers)
        for pk in added:
            self.stranger.wait_for_row(self.readings, pk)
        self._settle()
        found = [pk for _, pk in self.readings.changes[start:]]
        assert found == added, f"expected one change for each of {added}, got {self.readings.changes[start:]}"

    def roll_back(self) -> None:
        """Write and roll back: nothing is sent."""
        mark = self._mark()
        self.site.perform("roll_back", room=1)
        self._expect(mark, [], in_room=True)

    def delete(self) -> None:
        """Delete a note."""
        mark = self._mark()
        gone = self.others.pop()
        self.site.perform("remove", pk=gone)
        self._expect(mark, [("delete", gone)], in_room=True)

    def write_from_a_client(self) -> None:
        """Create, change and delete over a user's socket; an anonymous client may not."""
        mark = self._mark()
        made = self.visitor.request("notes", "create", data={"room": 1, "text": "from a client"})
        assert made["ok"], made
        changed = self.visitor.request("notes", "update", pk=made["pk"], data={"text": "once more"})
        assert changed["ok"], changed
        refused = self.stranger.request("notes", "update", pk=made["pk"], data={"text": "hacked"})
        assert refused["error"]["code"] == "denied", refused
        wrong = self.visitor.request("notes", "update", pk=made["pk"], data={"room": "no number"})
        assert wrong["error"]["code"] == "invalid", wrong
        removed = self.visitor.request("notes", "delete", pk=made["pk"])
        assert removed["ok"], removed
        self._expect(mark, [("create", made["pk"]), ("update", made["pk"]), ("delete", made["pk"])], in_room=True)

    def look_at_the_console(self) -> None:
        """Check what operators see: the connections, and the outcome of a change."""
        wanted = sorted([["", "notes", "readings"], [self.user, "notes", "secrets"], ["", "notes"]])
        self._poll(lambda: self.site.perform("connections"), wanted, "open connections")
        mark = self._mark()
        self.site.perform("update", pks=[self.first], text="asked about")
        self._expect(mark, [("update", self.first)], in_room=True)
        self._poll(
            lambda: self.site.perform("why", stream="notes", row=self.first, user=self.user)[:1], ["SENT"], "why"
        )

    def _poll(self, ask: Callable[[], Any], wanted: Any, what: str) -> None:
        """Poll until the answer is right: processes write the operators' data once a second."""
        deadline = time.monotonic() + PATIENCE
        while (answer := ask()) != wanted:
            assert time.monotonic() < deadline, f"{what}: expected {wanted}, got {answer}"
            time.sleep(0.2)

    def pause_in_a_snapshot(self) -> None:
        """Pause in a long snapshot: it is completed, and the writes made meanwhile follow."""
        reader = self._stack.enter_context(
            Subscriber("pausing reader", self.site.socket_url(), reads_on_demand=True, tls=self.site.tls)
        )
        feed = reader.begin("lines")
        reader.pause()
        # Two frames may be buffered in the library.
        changed = self.site.perform("change_line")
        time.sleep(self.pause)  # the pause is under test
        pages = feed.pages
        assert not feed.is_complete, f"the server never had to wait: all {pages} pages came at once"
        reader.go_on()
        reader.wait(lambda: feed.is_complete, f"the snapshot of {self.lines} rows is complete")
        assert len(feed.rows) == self.lines, f"expected {self.lines} rows, got {len(feed.rows)}"
        reader.wait(lambda: feed.rows[changed]["text"] == "changed", "the change made during the pause")
        reader.leave()

    def kill_and_resume(self) -> None:
        """Kill the servers, write, start them again: resuming clients get exactly what they missed."""
        mark = self._mark()
        self.site.kill_servers()
        for subscriber in (self.stranger, self.visitor, self.batched):
            subscriber.wait_closed()
        missed = [self.site.perform_elsewhere("add", room=1, text=f"missed {number}") for number in range(5)]
        self.site.start_servers()
        if not self.site.cell.keeps_sessions:
            self.visitor.cookie = self.site.log_in(self.user)
        self.stranger.come_back()
        self.visitor.come_back()
        self.batched.come_back(self.site.socket_url(1))
        self._expect(mark, [("create", pk) for pk in missed], in_room=True)
        for feed in (self.all_notes, self.room, self.batches, self.secrets):
            assert feed.notices == [], f"a resync would hide what a resume loses: {feed.notices}"

    def take_a_right_away(self) -> None:
        """Revoke a permission of a user with an open socket: later writes do not reach that subscription."""
        start = len(self.secrets.changes)
        self.site.perform("take_away", name=self.user, codename="view_note")
        self.site.perform("update", pks=self.others, text="after the right was taken")
        self.visitor.wait(lambda: ("closed", "permission") in self.secrets.notices, "the subscription is closed")
        self._settle()
        assert self.secrets.changes[start:] == [], "the user was sent what may no longer be viewed"

    def edit_the_record(self) -> None:
        """Edit a record: a removed field is no longer sent, and a disabled stream is closed."""
        self.site.perform("edit_record", stream="notes", fields=["room", "text"])
        pk = self.site.perform("add", room=1, text="after the edit")
        for subscriber, feed in (
            (self.stranger, self.all_notes),
            (self.visitor, self.room),
            (self.batched, self.batches),
        ):
            subscriber.wait_for_row(feed, pk)
            assert feed.rows[pk] == {"room": 1, "text": "after the edit"}
            subscriber.ask_anew(feed)
        self._compare()
        self.site.perform("edit_record", stream="readings", enabled=False)
        self.stranger.wait(lambda: ("closed", "disabled") in self.readings.notices, "the disabled stream is closed")

    def log_out(self) -> None:
        """Log a user out, after a page has changed the session: the socket of the session is closed."""
        cookie = self.site.visit(self.visitor.cookie)
        assert self.visitor.is_open
        self.site.log_out(cookie)
        code = self.visitor.wait_closed()
        assert code == 4401, f"expected close code 4401 after the logout, got {code}"
        assert self.stranger.is_open

    def shut_down(self) -> None:
        """Shut the servers down in order: clients are notified, and then closed with 1012."""
        if not self.site.cell.drains:
            return
        self.site.end_servers()
        for subscriber in (self.stranger, self.batched):
            code = subscriber.wait_closed()
            assert (subscriber.signals, code) == (["moving"], 1012), f"{subscriber.signals}, then {code}"

    # --- what steps share ---------------------------------------------------------------------------------------------

    @property
    def user(self) -> str:
        return "reader@example.org"

    def _subscriber(self, name: str, *, cookie: str = "", joined: bool = False, number: int = 0) -> Subscriber:
        url = self.site.socket_url(number)
        return self._stack.enter_context(Subscriber(name, url, cookie=cookie, joined=joined, tls=self.site.tls))

    def _mark(self) -> tuple[int, int, int]:
        """Return how many changes each feed of notes has received, once all writes have arrived."""
        self._settle()
        return len(self.all_notes.changes), len(self.room.changes), len(self.batches.changes)

    def _sentinel(self) -> int:
        self._sentinels += 1
        return int(self.site.perform("add", room=1, text=f"sentinel {self._sentinels}"))

    def _settle(self) -> None:
        sentinel = self._sentinel()
        for subscriber, feed in self._note_feeds():
            subscriber.wait_for_change(feed, ("create", sentinel))

    def _note_feeds(self) -> list[tuple[Subscriber, Feed]]:
        return [(self.stranger, self.all_notes), (self.visitor, self.room), (self.batched, self.batches)]

    def _expect(self, mark: tuple[int, int, int], changes: list[Change], *, in_room: bool | list[Change]) -> None:
        """Check that the feeds got exactly these changes since the mark, and hold the database's rows."""
        self._settle()
        expected = [changes, changes if in_room is True else in_room or [], changes]
        for (_, feed), start, wanted in zip(self._note_feeds(), mark, expected, strict=True):
            told = [change for change in feed.changes[start:] if not self._is_sentinel(feed, change)]
            assert told == wanted, f"{feed.group!r}: expected {wanted}, got {told}"
        self._compare()

    def _is_sentinel(self, feed: Feed, change: Change) -> bool:
        row: dict[str, Any] = feed.rows.get(change[1], {})
        return str(row.get("text", "")).startswith("sentinel ")

    def _compare(self) -> None:
        stored = self.site.perform("notes")
        for _, feed in self._note_feeds():
            # An edit of the record may have removed a field.
            names = next(iter(feed.rows.values()), {}).keys()
            wanted = {
                row["pk"]: {name: row[name] for name in names}
                for row in stored
                if not feed.params or row["room"] == feed.params["room"]
            }
            held = {pk: _with_sorted_lists(data) for pk, data in feed.rows.items()}
            assert held == wanted, f"{feed.group!r} differs from the database: {_difference(held, wanted)}"


def _with_sorted_lists(data: Mapping[str, object]) -> dict[str, object]:
    return {name: sorted(value) if isinstance(value, list) else value for name, value in data.items()}


def _difference(held: dict[Any, Any], wanted: dict[Any, Any]) -> str:
    """Describe the rows that differ."""
    keys = sorted(pk for pk in held.keys() | wanted.keys() if held.get(pk) != wanted.get(pk))
    return "; ".join(f"{pk}: holds {held.get(pk)}, stored is {wanted.get(pk)}" for pk in keys[:5])
