"""The handling of client requests: authentication, permissions, and the writes of clients.

``permissions`` is about users and sessions. ``authentication`` is about tokens, together with ``web_tokens`` for tokens
of other issuers and ``terms`` for their expiry. ``writes`` carries out one request and returns its reply;
``conditions`` checks the request's ``if`` and ``idempotency`` its ``key``. ``revocation`` records changes of
permissions in the log, so that they are applied to open sockets in order. Values are validated in
``declbind.value_validation``, which bindings use as well.
"""
