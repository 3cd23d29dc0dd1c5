"""The handling of client requests: authentication, permissions, and the one write of each request.

``permissions`` deals with users and sessions. ``authentication`` deals with tokens, together with ``web_tokens`` for
those of other issuers and ``terms`` for their ends. ``writes`` turns one mutation into one reply; ``conditions`` checks
its ``if`` and ``idempotency`` its ``key``. ``revocation`` writes changes of permissions to the log, so that open
sockets lose them in order. The validation of values is in ``declbind.value_validation``, which bindings use as well.
"""
