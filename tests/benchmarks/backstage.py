"""A program inside the site for the measurements of the console: it saves rows, fills the log and requests pages.

Driven by lines of JSON on standard input, one line of answer each, like `writer.py`:
- `{"do": "enter"}` makes an operator and answers with the cookie of a session;
- `{"do": "saves", "count": n}` saves n times and answers with saves a second and µs of CPU for each;
- `{"do": "feed", "per_second": r, "seconds": s}` appends events at a rate, in batches, and answers with their number
  and the seconds that it took; `"streams": [names]` spreads them, `"heard": name, "one_in": n` puts every n-th on a
  stream of its own;
- `{"do": "bindings", "count": n}` stores n records;
- `{"do": "publish", "count": n, "heard": name}` stores n records that everyone may view, and one for events with
  subscribers;
- `{"do": "connections"}` answers with the number of open connections in the console;
- `{"do": "list", "times": n}` requests the list of bindings and answers with its queries and milliseconds.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

import django

LIST = "/admin/declbind/bindingrecord/"
BATCHES_PER_SECOND = 20
STREAM = "benchmark"


class Backstage:
    """The operator and the row that is saved."""

    def enter(self) -> str:
        from django.contrib.auth.models import User
        from django.test import Client

        from declbind.models import BindingRecord
        from example_site.example.models import IntegerValue

        self.user, _ = User.objects.get_or_create(username="operator", is_staff=True, is_superuser=True)
        BindingRecord.objects.get_or_create(
            stream=STREAM, defaults={"model": "example.IntegerValue", "fields": ["name", "value"]}
        )
        self.row, _ = IntegerValue.objects.get_or_create(name="benchmark", value=0)
        client = Client()
        client.force_login(self.user)
        return str(client.cookies["sessionid"].value)

    def saves(self, count: int) -> list[float]:
        started, used = time.monotonic(), time.process_time()
        for number in range(count):
            self.row.value = number
            self.row.save()
        return [count / (time.monotonic() - started), 1e6 * (time.process_time() - used) / count]

    def feed(
        self,
        per_second: int,
        seconds: float,
        streams: Sequence[str] = (STREAM,),
        heard: str = "",
        one_in: int = 100,
    ) -> dict[str, float]:
        from django.utils import timezone

        from declbind.models import Event
        from declbind.registry import current_registry

        version = current_registry().version  # or the hub would treat them as events of an old configuration
        size = per_second // BATCHES_PER_SECOND
        count = size * int(seconds * BATCHES_PER_SECOND)
        started = time.monotonic()
        for first in range(0, count, size):
            time.sleep(max(0.0, started + first / per_second - time.monotonic()))
            events = []
            for number in range(first, first + size):
                is_heard = heard and number % one_in == 0
                stream = heard if is_heard else streams[number % len(streams)]
                data: dict[str, object] = {"number": number} if is_heard else {"name": "x" * 40, "value": number}
                events.append(
                    Event(
                        stream=stream, model="example.integervalue", object_pk=str(number), actor="feeder",
                        changes=f'[["{stream}","update"],["row-{number - first}","update"]]', version=version,
                        created_at=timezone.now(), data=json.dumps(data),
                    )
                )  # fmt: skip
            Event.objects.bulk_create(events)
        # The last batch lasts for a while too, or the computed rate would be too high.
        time.sleep(max(0.0, started + count / per_second - time.monotonic()))
        heard_events = -(-count // one_in) if heard else 0
        return {"events": count, "heard": heard_events, "seconds": time.monotonic() - started}

    def publish(self, count: int, heard: str) -> int:
        from declbind.models import BindingRecord

        self.bindings(count, permissions={"view": True})
        BindingRecord.objects.create(stream=heard, model="zoo.Strict", fields=["number"], permissions={"view": True})
        return int(BindingRecord.objects.count())

    def connections(self) -> int:
        from declbind.console.connections import Wanted, load_connections
        from declbind.registry import database_alias

        return load_connections(Wanted(), database_alias()).total

    def bindings(self, count: int, **keys: object) -> int:
        from declbind.models import BindingRecord

        BindingRecord.objects.bulk_create(
            BindingRecord(stream=f"many-{number}", model="blog.Post", fields=["title"], **keys)
            for number in range(count)
        )
        return int(BindingRecord.objects.count())

    def list(self, times: int) -> dict[str, float]:
        from django.db import connection
        from django.test import Client
        from django.test.utils import CaptureQueriesContext

        client = Client()
        client.force_login(self.user)
        client.get(LIST)
        waits = []
        for _ in range(times):
            with CaptureQueriesContext(connection) as queries:
                started = time.monotonic()
                assert client.get(LIST).status_code == 200
                waits.append(1000 * (time.monotonic() - started))
        return {"queries": len(queries), "milliseconds": statistics.median(waits)}


def main() -> None:
    django.setup()
    backstage = Backstage()
    for line in sys.stdin:
        command: dict[str, Any] = json.loads(line)
        answer = getattr(backstage, command.pop("do"))(**command)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
