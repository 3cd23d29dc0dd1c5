"""The bindings whose project code returns values that look like secrets and are therefore withheld."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from declbind.live.traffic import WITHHELD
from declbind.models import Traffic

from .shown import shown

#: The hours for which a withheld value is reported after its last record, and the number of records that are read.
REPORTED_HOURS, MAX_RECORDS = 24, 200


def load_withheld(using: str, stream: str | None = None) -> dict[str, str]:
    """Return a description of the last withheld values by stream, for all streams or one. Takes one query."""
    since = timezone.now() - timedelta(hours=REPORTED_HOURS)
    rows = shown(Traffic, using).filter(kind=Traffic.ERROR, outcome=WITHHELD, at__gte=since)
    if stream is not None:
        rows = rows.filter(stream=stream)
    newest = rows.order_by("-pk").values_list("stream", "message")[:MAX_RECORDS]
    # The newest record of a stream overwrites the older ones.
    return dict(reversed(list(newest)))
