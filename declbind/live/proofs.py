"""Proofs of the offset since which a user has held the permission to view a group.

The reply to a ``subscribe`` carries one under ``resume``, and a client that resumes sends it back. Without proofs, a
client could choose any offset, and a replay would disclose rows from before the client was allowed to see them. A proof
is signed with the project's ``SECRET_KEY``. An earlier key of ``SECRET_KEY_FALLBACKS`` is accepted.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.core.signing import BadSignature, Signer

from declbind.core import frames

_SALT = "declbind.resume"


@dataclass(frozen=True, slots=True)
class Holder:
    """The holder of a view permission: a user, for a group of a stream in one history of the log.

    Attributes:
        user_pk: The user's primary key as text, or ``None`` for anonymous users, who all hold the same permissions.
        tenant: The tenant of the user; "" on a site without tenants.
    """

    epoch: str
    user_pk: str | None
    stream: str
    group: str
    tenant: str = ""

    def issue(self, offset: int) -> str:
        """Return a proof that the permission has been held since ``offset``."""
        return f"{offset}.{self._sign(offset).rpartition(':')[2]}"

    def read(self, proof: str | None) -> int | None:
        """Return the offset of a proof, or ``None`` if it was not issued to this holder."""
        start, _, signature = (proof or "").partition(".")
        if not (start.isascii() and start.isdigit()):
            return None
        try:
            Signer(salt=_SALT).unsign(f"{self._statement(int(start))}:{signature}")
        except (BadSignature, ValueError):  # A number with too many digits is a ValueError.
            return None
        return int(start)

    def _sign(self, offset: int) -> str:
        return Signer(salt=_SALT).sign(self._statement(offset))

    def _statement(self, offset: int) -> str:
        # Without tenants the list has one item less. Lists of different lengths never have the same signature.
        return frames.encode([self.epoch, self.user_pk, self.stream, self.group, offset, *filter(None, [self.tenant])])
