"""Sockets: connections, subscriptions, the hub of each event loop, and what operators see of them.

``consumers`` implements ASGI for a ``socket``, after ``handshake`` has decided whether a client may connect.
``conversation`` reads the requests of a socket and replies to them. ``subscriptions`` carries out ``subscribe`` and
``unsubscribe``, with ``grants``, ``snapshots`` and ``replays``. ``joining`` subscribes connections that did not ask.
``hub`` runs the hub of an event loop: ``log_reader`` reads the log for it, ``doorbell`` wakes it, ``housekeeping`` is
its periodic work, ``permission_checks`` checks the permissions of its sockets, and ``changes`` is the effect of an edit
on it. ``authenticating`` lets a socket continue with another token, and ``expiry`` closes it when its token ends. The
modules that work for a hub describe by a protocol what they need of it, and do not import ``hub``. Operators see
``connection_log``, ``metrics``, ``traffic`` and ``nodes``. ``declbind.core.hub`` decides which frames a connection is
sent, and ``declbind.inbound`` what a request may do.
"""
