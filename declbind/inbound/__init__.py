"""Carry out what clients ask: who they are, whether they may, and the one write of each request.

``permissions`` knows users and sessions, ``authentication`` tokens (with ``web_tokens`` for those of other issuers,
and ``terms`` for their ends), ``writes`` turns one mutation into one reply, ``conditions`` judges its ``if`` and
``idempotency`` its ``key``; ``revocation`` puts changes of rights into the log, so that open sockets lose them in
order. What a value must look like is decided in ``declbind.validation``, which bindings use as well.
"""
