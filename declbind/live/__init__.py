"""Serve sockets: connections, subscriptions, the hub of each event loop, and what the operator sees of them.

``consumers`` speaks ASGI for a ``socket``, ``subscriptions`` answers subscribe and unsubscribe, ``hub`` runs the hub of
an event loop: ``doorbell`` wakes it, ``chores`` is what it does by the clock, ``rights`` judges its sockets again,
``changes`` says what an edit means for it, ``nodes`` keeps its heartbeat, ``traffic`` notes requests and refusals. What
is sent to whom is decided in ``declbind.core.hub``; what a request may do, in ``declbind.inbound``.
"""
