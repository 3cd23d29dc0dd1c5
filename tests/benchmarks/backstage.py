"""Do what the measures of the console need inside the site: save rows, fill the log, ask for pages.

Driven by lines of JSON on standard input, one line of answer each, like `writer.py`:
- `{"do": "enter"}` makes an operator and answers with the cookie of a session;
- `{"do": "saves", "count": n}` saves n times and answers with saves a second and µs of CPU for each;
- `{"do": "feed", "per_second": r, "seconds": s}` appends events at a rate, in batches, and answers with their number;
- `{"do": "bindings", "count": n}` stores so many records;
- `{"do": "list", "times": n}` asks for the list of bindings and answers with its queries and milliseconds.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from typing import Any

import django

LIST = "/admin/declbind/bindingrecord/"
BATCHES_PER_SECOND = 20
STREAM = "benchmark"


class Backstage:
    """Hold the operator and the row that is saved."""

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

    def feed(self, per_second: int, seconds: float) -> int:
        from django.utils import timezone

        from declbind.models import Event

        size = per_second // BATCHES_PER_SECOND
        started = time.monotonic()
        for number in range(int(seconds * BATCHES_PER_SECOND)):
            time.sleep(max(0.0, started + number / BATCHES_PER_SECOND - time.monotonic()))
            Event.objects.bulk_create(
                Event(
                    stream=STREAM, model="example.integervalue", object_pk=str(number * size + index), actor="feeder",
                    changes=f'[["benchmark","update"],["row-{index}","update"]]', created_at=timezone.now(),
                    data=json.dumps({"name": "x" * 40, "value": index}),
                )
                for index in range(size)
            )  # fmt: skip
        return size * int(seconds * BATCHES_PER_SECOND)

    def bindings(self, count: int) -> int:
        from declbind.models import BindingRecord

        BindingRecord.objects.bulk_create(
            BindingRecord(stream=f"many-{number}", model="blog.Post", fields=["title"]) for number in range(count)
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
