"""Tests of the bindings, with the tools of ``declbind.testing``."""

from django.contrib.auth.models import User
from django.test import TestCase, TransactionTestCase

from declbind.testing import CapturedEvent, Client, Payload, capture_events, override_bindings
from notes.bindings import Demultiplexer, LongNoteBinding, NoteBinding
from notes.models import Note
from notes.routes import websocket_urlpatterns
from notes.views import announce, known_streams, withdraw


class EventTests(TestCase):
    """What writes leave in the log."""

    def test_a_note_is_sent(self) -> None:
        """A new note is an event of both bindings."""
        with capture_events() as events:
            Note.objects.create(text="hello")
        found: list[CapturedEvent] = sorted(events, key=lambda event: event.stream)
        assert [event.changes for event in found] == [[("parity-1", "create")], [("room-1", "create")]]
        assert found[0].data == {"text": "hello", "length": 5}

    def test_announced_notes_are_counted(self) -> None:
        """All notes are announced."""
        Note.objects.bulk_create([Note(text="one"), Note(text="two", room=2)])
        assert announce(1) == 2

    def test_the_registry_has_both_streams(self) -> None:
        """Both classes are in the registry."""
        assert known_streams() == ["long-notes", "notes"]
        withdraw(User.objects.all())


class SocketTests(TransactionTestCase):
    """What clients receive."""

    async def test_a_change_arrives(self) -> None:
        """A subscriber receives a note in capitals."""
        with override_bindings(NoteBinding):
            async with Client() as client:
                reply = await client.request("notes", "subscribe", params={"room": 1})
                assert reply["ok"]
                await Note.objects.acreate(text="hello")
                frame = await client.receive(seconds=10)
                payload: Payload = frame["payload"]
                assert payload["data"] == {"text": "HELLO"}
                assert (frame["stream"], frame["offset"] > 0, payload["action"]) == ("notes", True, "create")

    async def test_anonymous_users_are_refused(self) -> None:
        """A user who is not active may not subscribe."""
        with override_bindings(LongNoteBinding):
            async with Client() as client:
                reply = await client.request("long-notes", "subscribe", params={"parity": 1})
                assert not reply["ok"]
                code: str = reply["error"]["code"]
                assert code == "denied"

    async def test_a_demultiplexer_serves_its_bindings_only(self) -> None:
        """Its application can be used by a client and has an address."""
        assert [pattern.name for pattern in websocket_urlpatterns] == ["notes"]
        async with Client(Demultiplexer.as_asgi()) as client:
            reply = await client.request("notes", "subscribe", params={"room": 1})
            assert not reply["ok"]
