"""A management command that saves rows on request, in a process of its own beside the web processes."""

import json
import sys

from django.apps import apps
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    """The command: reads one JSON object a line from standard input, saves it as a row, answers with its key."""

    help = 'Reads lines {"model": "app.Model", "pk": key or null, "values": {...}} and saves each as a row.'

    def handle(self, *args: object, **options: object) -> None:
        """Read until standard input ends."""
        self.stdout.write("ready")
        self.stdout.flush()
        while line := sys.stdin.readline():
            order = json.loads(line)
            model = apps.get_model(order["model"])
            row = model(**order["values"]) if order["pk"] is None else model.objects.get(pk=order["pk"])
            for name, value in order["values"].items():
                setattr(row, name, value)
            row.save()
            self.stdout.write(json.dumps(row.pk))
            self.stdout.flush()
