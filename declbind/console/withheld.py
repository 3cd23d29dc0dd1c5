"""Which bindings hold values back that their code would send, and that look like secrets."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from declbind.live.traffic import WITHHELD
from declbind.models import Traffic

#: For how long it is told after it was last noted, and how many notes are looked at.
TOLD_HOURS, MAX_NOTES = 24, 200


def load_withheld(using: str, stream: str | None = None) -> dict[str, str]:
    """Return what was last held back, in words, by stream; of one stream if it is given. One query."""
    since = timezone.now() - timedelta(hours=TOLD_HOURS)
    rows = Traffic.objects.using(using).filter(kind=Traffic.ERROR, outcome=WITHHELD, at__gte=since)
    if stream is not None:
        rows = rows.filter(stream=stream)
    newest = rows.order_by("-pk").values_list("stream", "message")[:MAX_NOTES]
    # The newest of a stream is the one that stays.
    return dict(reversed(list(newest)))
