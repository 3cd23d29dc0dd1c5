"""Wrong uses of the public API, for `test_types`: both type checkers report each line that is marked, and no other.

The file is copied into the app `notes` of the project.
"""

from collections.abc import Mapping

from django.contrib.auth.models import User
from notes.models import Note

import declbind
from declbind import WebsocketBinding, get_registry, recheck, routing, touch
from declbind.serializers import register_serializer
from declbind.tenancy import Tenancy
from declbind.testing import Client, capture_events, override_bindings
from declbind.tokens import issue

Demultiplexer = declbind.Demultiplexer  # wrong: misspelt
ROUTES = [*routing.websocket_urlpattern]  # wrong: misspelt


class Numbers(WebsocketBinding):
    """Wrong attributes and methods of a binding."""

    stream = 5  # wrong: a name
    groups = 5  # wrong: a list of templates
    enabled = "yes"  # wrong: a switch
    direction = "outbond"  # wrong: misspelt
    capture = "trigger"  # wrong: misspelt
    auto_subscribe = None  # wrong: a switch

    @classmethod
    def group_names(cls, instance: object) -> list[int]:  # wrong: names
        """Return numbers instead of names."""
        return [1]

    def has_permission(self, user: User, action: int, pk: object) -> bool:  # wrong: the action is a text
        """Take a number instead of an action."""
        return action > 1


class Users(WebsocketBinding[User]):
    """Methods for rows of another model than the class says."""

    def serialize_data(self, instance: Note) -> dict[str, object]:  # wrong: the rows are users
        """Take a note instead of a user."""
        return {"text": instance.text}

    def serialize(self, instance: User, action: str) -> dict[str, object]:
        """Misspell a field."""
        return {"name": instance.usrname}  # wrong: misspelt


class Texts(WebsocketBinding[str]):  # wrong: a model
    """Rows that no model has."""


class Halfway:
    """A class of tenants without two of the methods."""

    def of_connection(self, alias: str) -> str:
        """Return one tenant."""
        return alias


def count_letters(note: Note, binding: object) -> int:
    """Return a number instead of a dict."""
    return len(note.text)


def misuse(user: User) -> list[object]:
    """Call functions with wrong arguments."""
    tenancy: Tenancy = Halfway()  # wrong: two methods are missing
    issue(user, streams=5)  # wrong: names of streams
    issue(user, lifetime="long")  # wrong: a number of seconds
    number: int = issue(user)  # wrong: a token is a text
    touch(5)  # wrong: rows
    recheck(5)  # wrong: a list of users
    str(get_registry().by_straem)  # wrong: misspelt
    register_serializer("letters", count_letters)  # wrong: it returns no mapping
    with override_bindings(5):  # wrong: a record or a class
        pass
    with capture_events(5) as events:  # wrong: the name of a stream
        str(events[0].streem)  # wrong: misspelt
    return [tenancy, number]


async def misuse_a_client() -> Mapping[str, object]:
    """Use a client in wrong ways."""
    client = Client(path=5)  # wrong: a text
    await client.receive(seconds="ten")  # wrong: a number
    await client.send(5)  # wrong: a frame
    code: str = await client.wait_closed()  # wrong: a number
    reply = await client.request("notes", 5)  # wrong: an action is a text
    reply["error"]["cod"]  # wrong: misspelt
    offset: str = reply["offset"]  # wrong: a number
    return {"code": code, "offset": offset}
