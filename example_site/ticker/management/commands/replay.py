"""The command that replays the share prices into the model, like a real feed."""

from __future__ import annotations

import os
import time
from argparse import ArgumentParser
from datetime import date
from typing import Any

from django.core.management import CommandError
from django.core.management.base import BaseCommand
from django.db import transaction

from example_site.ticker.models import Price
from example_site.ticker.stocks import Quote, load_quotes

PAUSE = 6.0  # seconds at the end, to show the whole chart


class Command(BaseCommand):
    help = "Save the historical share prices in the order of their days, at a chosen speed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--speed", type=float, default=45.0, help="days of history a second (default 45)")
        parser.add_argument("--loop", action="store_true", help="start again at the end")
        parser.add_argument("--symbol", action="append", help="only this share; may be given several times")
        parser.add_argument("--history", type=int, default=24, help="months that are stored at the start (default 24)")
        parser.add_argument("--parent", type=int, help="end when this process is no longer the parent")

    def handle(self, *args: object, **options: Any) -> None:
        if not options["speed"] > 0:
            raise CommandError(f"--speed: expected more than 0 days a second, got {options['speed']}.")
        try:
            days = load_quotes(options["symbol"])
        except LookupError as error:
            raise CommandError(str(error)) from None
        self.speed: float = options["speed"]
        self.parent: int | None = options["parent"]
        history = max(0, min(options["history"], len(days)))
        try:
            while True:
                self.play(days, history)
                if not options["loop"]:
                    self.stdout.write(f"Replayed {len(days)} months of share prices.")
                    return
                if not self.wait(PAUSE):
                    return
        except KeyboardInterrupt:
            return

    def play(self, days: dict[date, list[Quote]], history: int) -> None:
        opening, rest = list(days)[:history], list(days)[history:]
        self.rewind(
            {day: days[day] for day in opening},
            {quote.symbol for quotes in days.values() for quote in quotes},
        )
        last = opening[-1] if opening else rest[0]
        for day in rest:
            if not self.wait((day - last).days / self.speed):
                return
            self.save(days[day])
            last = day

    def rewind(self, opening: dict[date, list[Quote]], symbols: set[str]) -> None:
        """Keep only the opening months; rows that are already correct are not written again."""
        with transaction.atomic():
            rows = Price.objects.filter(symbol__in=symbols)
            rows.exclude(date__in=list(opening)).delete()
            there = set(rows.values_list("symbol", "date", "price"))
            wanted = [quote for quotes in opening.values() for quote in quotes]
            self.save([quote for quote in wanted if (quote.symbol, quote.date, quote.price) not in there])

    def save(self, quotes: list[Quote]) -> None:
        with transaction.atomic():
            for quote in quotes:
                Price.objects.update_or_create(symbol=quote.symbol, date=quote.date, defaults={"price": quote.price})

    def wait(self, seconds: float) -> bool:
        """Sleep; return False if the process that started this one has ended."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if self.parent is not None and os.getppid() != self.parent:
                return False
            time.sleep(min(left, 0.5))
        return True
