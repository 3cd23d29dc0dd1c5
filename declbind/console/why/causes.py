"""The closed list of reasons why a frame arrived or did not, each with its meaning and advice."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise as Text


#: Compared by identity, because an enumeration compares its values at import, when there are no translations yet.
@dataclass(frozen=True, eq=False)
class Meaning:
    """The meaning of a cause, as a sentence without particulars, and the advice; "" for no advice."""

    title: Text
    remedy: Text | str = ""


class Cause(Enum):
    """A reason why a frame arrived or did not."""

    NO_BINDING = Meaning(
        _("No binding has this stream, so nothing could be sent."),
        _("Bind the model under this stream, or look for the stream's right name in the list."),
    )
    NOT_IN_FORCE = Meaning(
        _("The binding was disabled or invalid, so nothing was sent."),
        _("Enable it, or correct what its page says is wrong."),
    )
    CLOSED_DIRECTION = Meaning(
        _("The binding only accepts changes from clients and sends none."),
        _("Open its direction if clients should receive changes."),
    )
    NOT_CAPTURED = Meaning(
        _("The row was written without an event."),
        _("Write the row through the ORM, or announce it with declbind.touch()."),
    )
    BULK_RESYNC = Meaning(
        _("The row was one of many: its groups were asked to take a snapshot, and the rows were not sent singly."),
        _(
            "Nothing, if the client takes a snapshot after a `resync`. To send more rows one by one, raise "
            "DECLBIND['BULK_LIMIT']."
        ),
    )
    OTHER_DATABASE = Meaning(
        _("The row was written to another database, where changes are not captured."),
        _("Write the row to the database of the log, or route app 'declbind' to the database of the row."),
    )
    OTHER_MODEL = Meaning(
        _("The change belongs to a parent or a child of the bound model, which this stream does not send."),
        _("Ask about the stream of that model, or bind it."),
    )
    WRONG_KEY = Meaning(_("No row has this key."), _("Check the key. It is the primary key and not another field."))
    UNKNOWN_USER = Meaning(_("There is no such user."), _("Check the user's name or primary key."))
    OPEN_TRANSACTION = Meaning(
        _("The write is in a transaction that has not ended, so nobody else can see it."),
        _("Let the program commit, or end its session."),
    )
    ROLLED_BACK = Meaning(
        _("Nothing was committed: the write was rolled back, or it changed nothing."),
        _("Check whether the request or task that wrote the row failed."),
    )
    BINDING_FAILED = Meaning(
        _("The binding failed while the write was captured."), _("Fix the error named above, then save the row again.")
    )
    NOTHING_MADE = Meaning(
        _("The code of the binding made an empty payload for this change, which sends nothing."),
        _("Correct `serialize` of the binding class if clients should receive such changes."),
    )
    OUTSIDE_WHERE = Meaning(
        _("The row does not match the binding's conditions, so for clients it does not exist."),
        _("Change the row, or the binding's 'Only rows where'."),
    )
    NO_GROUP = Meaning(
        _("A field that the group names need is empty, so the row is in no group and is not sent."),
        _("Fill in the field, or add a group template without it."),
    )
    NOBODY_SUBSCRIBED = Meaning(
        _("Nobody was subscribed to the groups of this change."),
        _("Compare the groups of the change with those that clients subscribe to, on the page of connections."),
    )
    NOT_CONNECTED = Meaning(
        _("The user was not connected then."),
        _("Check in the browser's network tab whether the page opened its WebSocket, and to which address."),
    )
    NOT_SUBSCRIBED = Meaning(
        _("The user was connected and not subscribed to a group of this change."),
        _("Compare the groups of the change with those that the client subscribes to."),
    )
    NOT_MOUNTED = Meaning(
        _("The ASGI application serves no consumer of declbind, so no client can connect."),
        _("Mount declbind.routing.websocket_urlpatterns in the ASGI application."),
    )
    NO_LOGIN = Meaning(
        _("No middleware of the ASGI application identifies users, so every client is anonymous."),
        _("Wrap the URLRouter in channels.auth.AuthMiddlewareStack."),
    )
    NOT_THEIRS = Meaning(
        _("The row belongs to another user, and each user receives only their own rows."),
        _("Nothing, if the row has the right owner. Otherwise change the owner, or the binding's own rows (`scope`)."),
    )
    REFUSED = Meaning(
        _("The subscription was refused."), _("Grant the permission that the rule requires, or change the rule.")
    )
    WRITE_REFUSED = Meaning(
        _("A client's request to write the row was refused, so nothing was stored."),
        _(
            "Try the same on the page 'Try it', which names the rule. Then grant what it requires, or correct the "
            "request."
        ),
    )
    REVOKED = Meaning(
        _("The permission was revoked before this change."), _("Grant it again, and let the client subscribe again.")
    )
    KICKED = Meaning(_("An operator had disconnected the client."), _("Check the admin's log, or lift the block."))
    ORIGIN = Meaning(
        _("A connection was refused because of the page that it came from."),
        _("Add the page's origin to DECLBIND['ALLOWED_ORIGINS'] if it is yours."),
    )
    OVER_LIMIT = Meaning(
        _("The client was over a limit."), _("Let it send fewer requests, or raise the limit in the settings.")
    )
    OLD_VERSION = Meaning(
        _("The row was written under an older configuration, which gave it other groups or fields."),
        _("Save the row again, or let the client take a snapshot."),
    )
    OLD_CODE = Meaning(
        _("A process runs older code than the others, with other bindings."),
        _("Restart the process, so that it loads the present code and files."),
    )
    CLOCKS = Meaning(
        _("The clocks of the hosts differ, so that the times of changes and connections cannot be compared."),
        _("Synchronize the clocks, for example by NTP. Until then, ask with the offset of the change."),
    )
    NUMBERING_BLOCKED = Meaning(
        _("A database session holds the lock that numbers the log, so no change can be sent."),
        _("End that session, for example with `SELECT pg_terminate_backend(pid)`."),
    )
    NOT_SEQUENCED = Meaning(
        _("The change is stored and has no number yet, so it cannot be sent."),
        _("Run an ASGI process or `manage.py declbind relay`, which number the log."),
    )
    PROCESS_BEHIND = Meaning(
        _("The client's process has not reached this change yet."),
        _("Check the lag and the last error of the process."),
    )
    PROCESS_LOST = Meaning(
        _("The client's process ended unexpectedly."), _("Let the client reconnect; it resumes from its last offset.")
    )
    TOO_SLOW = Meaning(
        _("The client read too slowly: its queue overflowed, and the connection was closed with 4408."),
        _("Let the client reconnect; it resumes. Find out what keeps it from reading."),
    )
    SENT = Meaning(
        _("It was sent."),
        _(
            "Look at the page's own code: the frame with this offset is in the browser's network tab, under the "
            "WebSocket."
        ),
    )
    HELD_BACK = Meaning(
        _("Values that look like secrets were sent as null."),
        _("Take them out of the code of the binding, or name them in 'sensitive' if they are to be sent."),
    )
    EXPIRED = Meaning(
        _("The change is older than the log, so nothing is known about it any more."),
        _("Raise DECLBIND['RETENTION_SECONDS'] if you need a longer history."),
    )
    UNEXPLAINED = Meaning(
        _("What is stored does not show what happened."),
        _("Ask again with the time or the offset of the change, or repeat the write while you watch the live page."),
    )

    @property
    def code(self) -> str:
        """Return the name for machines."""
        return self.name.lower()
