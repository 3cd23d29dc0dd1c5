"""The tables of declbind.

``record``  binding records
``record_edits`` what an edit changes; ``record_signals`` validates and announces it
``known_fields`` the fields that a record may send, and how an edit changes them
``baseline`` the fields that the bindings of files and classes may send
``revision`` the traces of edits: revisions and the configuration version
``log``     the event log and its head
``node``    the processes that serve sockets
``connection`` connections and blocked users
``activity`` counts for the charts
``traffic`` requests, refusals and errors for the operator; watches, saved views; idempotency keys
``unseen``  writes to bound tables that left no event
``columns`` text columns and indexes that behave alike on every database

Models define how data is stored and validated; the wire format and capture are elsewhere. A new table gets a module
of its own, named after its noun, and a line in this list. Its text columns are exact (see ``columns``).
"""

from . import record_signals
from .activity import Activity, StreamUse
from .baseline import Baseline
from .connection import Block, Connection
from .log import Event, Head
from .node import Node
from .record import BindingRecord
from .revision import BindingRevision, Configuration, editing
from .traffic import IdempotencyKey, SavedView, Traffic, Watch
from .unseen import UnseenWrite

record_signals.connect()

__all__ = [
    "Activity",
    "Baseline",
    "BindingRecord",
    "BindingRevision",
    "Block",
    "Configuration",
    "Connection",
    "Event",
    "Head",
    "IdempotencyKey",
    "Node",
    "SavedView",
    "StreamUse",
    "Traffic",
    "UnseenWrite",
    "Watch",
    "editing",
]
