"""Sockets: connections, subscriptions, the hub of each event loop, and the records that operators see.

``consumers`` implements ASGI for a ``socket``, after ``handshake`` has decided whether a client may connect.
``conversation`` reads the requests of a socket and replies to them. ``subscriptions`` carries out ``subscribe`` and
``unsubscribe``, with ``grants``, ``snapshots`` and ``replays``. ``joining`` subscribes connections automatically.
``authenticating`` lets a socket continue with another token, and ``expiry`` closes the socket when its token ends.

``hub`` runs the hub of an event loop. ``log_reader`` reads the log for it, ``doorbell`` wakes it, and ``housekeeping``
is its periodic work. ``permission_checks`` checks the permissions of its sockets, and ``changes`` determines the effect
of an edited binding. Modules that work for a hub declare the parts that they use as a protocol and do not import
``hub``.

Operators see ``connection_log``, ``metrics``, ``traffic`` and ``nodes``. ``declbind.core.hub`` decides which frames a
connection is sent, and ``declbind.inbound`` what a request may do.
"""
