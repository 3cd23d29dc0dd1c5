"""How sure an answer is."""

from __future__ import annotations

from enum import Enum
from typing import Final

from django.utils.translation import gettext_lazy as _

_TEXTS: Final = {"certain": _("certain"), "likely": _("likely"), "cannot tell": _("cannot tell")}


class Certainty(Enum):
    """How sure an answer is. The value is the word for machines.

    - ``CERTAIN``: the evidence leaves no other explanation.
    - ``LIKELY``: the evidence speaks for it, and ``Answer.settle`` says what would settle it.
    - ``CANNOT_TELL``: what would be needed is missing, and ``Answer.settle`` says what it is.
    """

    CERTAIN = "certain"
    LIKELY = "likely"
    CANNOT_TELL = "cannot tell"

    @property
    def text(self) -> str:
        """Return the word for people."""
        return str(_TEXTS[self.value])

    @property
    def rank(self) -> int:
        """Return the place in the order of answers, the surest first."""
        return list(Certainty).index(self)
