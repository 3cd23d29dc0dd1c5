"""The check of the names of other packages that declbind wraps or uses (W015)."""

from __future__ import annotations

from django.core.checks import CheckMessage
from django.core.checks import Warning as CheckWarning

from declbind.outbound.capture import find_faults


def check_seams(**kwargs: object) -> list[CheckMessage]:
    """Check the methods that capture wraps and the other private names that declbind uses (W015). Makes no query."""
    return [CheckWarning(fault.text, hint=fault.action, id="declbind.W015") for fault in find_faults()]
