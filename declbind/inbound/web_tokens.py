"""JSON Web Tokens of another issuer, configured by ``DECLBIND["JWT"]``. Requires PyJWT (extra ``jwt``).

A token must use one of the configured algorithms, and these must all be of one kind. Otherwise a public key, which
anyone may know, could be used as the secret of an HMAC.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.core.exceptions import FieldDoesNotExist

from declbind import tenancy
from declbind.conf import settings
from declbind.django_types import User
from declbind.registry import database_alias
from declbind.tokens import InvalidTokenError, tenant_of_users

from .permissions import find_active_user

# PyJWT is imported where it is used, because it imports cryptography, which slows down the start.
HAS_JWT = find_spec("jwt") is not None

logger = logging.getLogger("declbind")

#: The keys of the setting with their defaults; the first two have none.
KEYS: Final[dict[str, Any]] = {
    "key": None,
    "algorithms": None,
    "user_claim": "sub",
    "user_field": "pk",
    "audience": None,
    "issuer": None,
    "tenant_claim": None,
}
#: The minimum length of HMAC keys in bytes (RFC 7518, section 3.2).
HMAC_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}

Fault = tuple[str, str]


def read(token: str) -> tuple[User | None, float]:
    """Return the user of a JSON Web Token, or ``None`` if there is none, and its expiry in seconds since the epoch.

    Blocks on the database.

    Raises:
        InvalidTokenError: The token is not valid, or the setting cannot be used.
    """
    config = _usable(settings.JWT)
    import jwt as pyjwt

    claim = config["user_claim"]
    try:
        claims = pyjwt.decode(
            token,
            config["key"],
            algorithms=list(config["algorithms"]),
            audience=config["audience"],
            issuer=config["issuer"],
            options={"require": ["exp", claim]},
        )
        expires_at = float(int(claims["exp"]))
    except Exception as error:  # PyJWT lets some errors of the standard library through.
        # PyJWT's messages may quote parts of the header, which the client chose.
        raise InvalidTokenError(f"The JSON Web Token was refused: {type(error).__name__}.") from None
    _check_tenant(claims, config["tenant_claim"])
    value = claims[claim]
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InvalidTokenError(f"Expected a text or an integer as the claim {claim!r}.")
    return find_active_user(config["user_field"], value), expires_at


def _check_tenant(claims: Mapping[str, object], name: str | None) -> None:
    """Refuse a token of another tenant, where the same key may be another user. Call it inside the tenant."""
    if name is not None and tenancy.is_on():
        if claims.get(name) != tenancy.of_connection(database_alias()):
            raise InvalidTokenError(f"Expected the name of this tenant as the claim {name!r}.")
    elif tenant_of_users():
        raise InvalidTokenError(
            'DECLBIND["JWT"] has no "tenant_claim", and each tenant has a user of its own for the same claims.'
        )


#: The last setting that was checked, and its faults. Cached because a public key takes long to load.
_seen: tuple[object, list[Fault]] = (None, [])


def _usable(given: Any) -> dict[str, Any]:
    global _seen
    if _seen[0] is not given:
        _seen = given, list(find_faults(given))
    faults = _seen[1]
    if faults:
        logger.error('DECLBIND["JWT"] cannot be used, so that no JSON Web Token is accepted: %s', faults[0][0])
        raise InvalidTokenError('DECLBIND["JWT"] is not usable; manage.py check says why.')
    return {**KEYS, **given}


def find_faults(config: object) -> Iterator[Fault]:
    """Yield the reasons why ``DECLBIND["JWT"]`` cannot be used, as pairs of a text and a hint."""
    if not isinstance(config, Mapping):
        yield f"expected a dict or None, got {type(config).__name__}.", f"Its keys are: {', '.join(KEYS)}."
        return
    unknown = [name for name in config if name not in KEYS]
    if unknown:
        yield f"there is no key {unknown[0]!r}.", f"Remove it. The keys are: {', '.join(KEYS)}."
    if not HAS_JWT:
        yield "expected the package PyJWT, found none.", 'Install it: pip install "declbind[jwt]".'
        return
    algorithms = config.get("algorithms")
    if not isinstance(algorithms, list | tuple) or not algorithms or not all(isinstance(a, str) for a in algorithms):
        yield (
            f"expected a list of algorithms, got {algorithms!r}.",
            'Name those that the issuer signs with, such as ["RS256"].',
        )
    else:
        yield from _algorithm_faults(algorithms, config.get("key"))
    if not isinstance(config.get("tenant_claim"), str | None):
        yield f"expected a text or None under 'tenant_claim', got {config['tenant_claim']!r}.", "Name a claim."
    for name in ("user_claim", "user_field"):
        if not isinstance(config.get(name, ""), str):
            yield f"expected a text under {name!r}, got {config[name]!r}.", f"The default is {KEYS[name]!r}."
    audience, issuer = config.get("audience"), config.get("issuer")
    if not _is_text_or_texts(audience) or not _is_text_or_texts(issuer):
        yield "expected a text or a list of texts as audience and issuer.", "None accepts a token without the claim."
    yield from _field_faults(config.get("user_field", "pk"))


def is_weak(config: Mapping[str, Any]) -> bool:
    """Return whether an HMAC key is shorter than the digest, so that it could be guessed."""
    key, algorithms = config.get("key") or b"", config.get("algorithms") or ()
    size = len(key.encode() if isinstance(key, str) else key)
    return any(size < HMAC_BYTES.get(name, 0) for name in algorithms)


def _algorithm_faults(algorithms: list[str] | tuple[str, ...], key: object) -> Iterator[Fault]:
    from jwt.algorithms import get_default_algorithms

    known = get_default_algorithms()
    if any(name.lower() == "none" for name in algorithms):
        yield (
            "expected algorithms that sign, got 'none'.",
            "Anyone could make such a token. Name the algorithm that the issuer signs with.",
        )
        return
    unknown = [name for name in algorithms if name not in known]
    if unknown:
        yield (
            f"the algorithm {unknown[0]!r} is not known to PyJWT.",
            f"Known are: {', '.join(sorted(set(known) - {'none'}))}. All except HS... require cryptography.",
        )
        return
    if len({name in HMAC_BYTES for name in algorithms}) > 1:
        yield (
            f"expected algorithms of one kind, got {', '.join(algorithms)}.",
            "The public key, which anyone may know, would be the secret of an HMAC. Name those that the issuer uses.",
        )
        return
    if not isinstance(key, str | bytes) or not key:
        yield (
            f"expected a key as text or bytes, got {'none' if not key else type(key).__name__}.",
            "It is the shared secret of an HMAC algorithm, or the issuer's public key as PEM.",
        )
        return
    for name in algorithms:
        try:
            is_public = hasattr(known[name].prepare_key(key), "verify") or name in HMAC_BYTES
        except Exception as error:  # The library may raise anything for a key that it cannot read.
            yield f"the key cannot be used with {name}: {type(error).__name__}.", "Give the issuer's public key as PEM."
            return
        if not is_public:
            yield (
                f"expected a public key for {name}, got a private one.",
                "Only the issuer of the tokens may have the private key.",
            )
            return


def _field_faults(name: str) -> Iterator[Fault]:
    model = get_user_model()
    try:
        field = model._meta.pk if name == "pk" else model._meta.get_field(name)
    except FieldDoesNotExist:
        yield f"the user model {model._meta.label} has no field {name!r}.", 'Name one under "user_field".'
        return
    if not getattr(field, "unique", False) or field.is_relation:
        yield (
            f"the field {name!r} of {model._meta.label} is not unique.",
            "Name a unique column, so that a claim cannot stand for several users.",
        )


def _is_text_or_texts(value: object) -> bool:
    if isinstance(value, list | tuple | set | frozenset):
        return all(isinstance(item, str) for item in value)
    return value is None or isinstance(value, str)
