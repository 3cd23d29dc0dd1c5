"""Sockets: connections, subscriptions, the hub of each event loop, and what operators see of them.

``consumers`` implements ASGI for a ``socket``. ``subscriptions`` answers ``subscribe`` and ``unsubscribe``, with
``snapshots``, and ``joining`` subscribes connections that did not ask. ``hub`` runs the hub of an event loop:
``log_reader`` reads the log for it, ``doorbell`` wakes it, ``housekeeping`` is its periodic work, ``rights`` checks
the permissions of its sockets, and ``changes`` is the effect of an edit on it. ``handshake`` finds out who connects,
``authenticating`` lets a socket go on by another token, and ``expiry`` closes it when its token ends. The files that
work for a hub say by a protocol what they need of it, and do not import ``hub``. Operators see ``connection_log``,
``metrics``, ``traffic`` and ``nodes``. ``declbind.core.hub`` decides which frames a connection is sent, and
``declbind.inbound`` what a request may do.
"""
