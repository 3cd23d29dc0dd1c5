"""Checks of the authentication of clients by tokens (E010, E011, W022)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as CheckWarning

from declbind.conf import settings
from declbind.inbound import authentication, web_tokens


def check_tokens(**kwargs: object) -> list[CheckMessage]:
    """Check ``AUTHENTICATE`` and ``JWT`` (E010, E011, W022). Makes no query."""
    return [*_check_callable(settings.AUTHENTICATE), *_check_web_tokens(settings.JWT)]


def _check_callable(path: object) -> Iterator[CheckMessage]:
    fault = authentication.find_fault(path)
    if fault is not None:
        yield Error(
            "settings.DECLBIND['AUTHENTICATE']: expected the dotted path of a callable (token, scope) -> (user, "
            f"expires_at) or None, got {path!r}, {fault}.",
            hint="No client is authenticated by a token until it is corrected. Without the setting, tokens of "
            "declbind.tokens.issue() are accepted.",
            id="declbind.E010",
        )


def _check_web_tokens(config: object) -> Iterator[CheckMessage]:
    if config is None:
        return
    faults = list(web_tokens.find_faults(config))
    for text, hint in faults:
        yield Error(f"settings.DECLBIND['JWT']: {text}", hint=hint, id="declbind.E011")
    if not faults and isinstance(config, Mapping) and web_tokens.is_weak(config):
        sizes = ", ".join(f"{name} {size}" for name, size in web_tokens.HMAC_BYTES.items())
        yield CheckWarning(
            "settings.DECLBIND['JWT']: the key is shorter than the digest of its algorithm. The holder of one token "
            "can try keys until one fits, and then write tokens for every user.",
            hint=f"Use a random key with at least the size that the algorithm requires: {sizes}.",
            id="declbind.W022",
        )
    if not faults and settings.AUTHENTICATE is not None:
        yield CheckWarning(
            "settings.DECLBIND['JWT'] has no effect, because DECLBIND['AUTHENTICATE'] handles all tokens.",
            hint="Remove one of them.",
            id="declbind.W022",
        )
