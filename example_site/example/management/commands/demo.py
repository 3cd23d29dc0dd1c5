"""The command that prepares and starts the example site."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import CommandError, call_command
from django.core.management.base import BaseCommand
from django.db import connections

import example_site
from declbind.conf import settings as declbind_settings
from declbind.models import BindingRecord
from example_site.blog.models import Blog
from example_site.example import accounts
from example_site.example.models import IntegerValue

SITE = Path(example_site.__file__).parent

HOST = "127.0.0.1"
NUMBERS = {"Coffees today": 7, "Open tickets": 23, "Days without incident": 112, "Visitors": 1480}


class Command(BaseCommand):
    help = "Create the demo's database, users and content, then serve the site with the share prices replaying."
    # The checks would query tables that may not exist yet.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=os.environ.get("PORT", "8000"), help="default: PORT, else 8000")
        parser.add_argument("--no-replay", action="store_true", help="leave the share prices alone")
        parser.add_argument("--speed", type=float, default=45.0, help="days of share prices a second (default 45)")
        parser.add_argument("--prepare-only", action="store_true", help="create everything, start nothing")

    def handle(self, *args: object, **options: Any) -> None:
        if not settings.DEBUG:
            raise CommandError(
                "The demo makes users whose passwords are public, so it runs with DEBUG=True only; got DEBUG=False. "
                "For a site of your own: `migrate`, `createsuperuser`, and an ASGI server on "
                "example_site.asgi:application."
            )
        port: int = options["port"]
        if not options["prepare_only"]:
            self.check_port(port)
        self.prepare(options["verbosity"])
        self.print_addresses(port)
        if not options["prepare_only"]:
            self.serve(port, speed=None if options["no_replay"] else options["speed"])

    def check_port(self, port: int) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except (OSError, OverflowError) as error:
                raise CommandError(
                    f"Cannot listen on {HOST}:{port} ({error}). Another program may hold the port: stop it, "
                    "or choose another by --port or PORT."
                ) from None

    def prepare(self, verbosity: int) -> None:
        """Bring the database up to date; existing data stays."""
        call_command("migrate", interactive=False, verbosity=verbosity - 1)
        accounts.ensure_users()
        if not IntegerValue.objects.exists():
            for name, value in NUMBERS.items():
                IntegerValue.objects.create(name=name, value=value)
        if not Blog.objects.exists():
            call_command("loaddata", "blog_sample", verbosity=0)
        if not BindingRecord.objects.filter(stream="ticker").exists():
            call_command("loaddata", "ticker_binding", verbosity=0)

    def print_addresses(self, port: int) -> None:
        site = f"http://{HOST}:{port}"
        lines = [
            "",
            self.style.MIGRATE_HEADING("The example site"),
            f"  {site}/          start here",
            f"  {site}/board/    a board of numbers (binding in Python)",
            f"  {site}/blog/     a live blog (bindings in JSON files)",
            f"  {site}/ticker/   share prices (binding in the database)",
            f"  {site}/admin/    bindings and live traffic, for the operator",
            "",
            self.style.MIGRATE_HEADING("Accounts (user / password)"),
            *(f"  {one.username:9} / {one.password:14} {one.may}" for one in accounts.ACCOUNTS),
            "",
        ]
        self.stdout.write("\n".join(lines))

    def serve(self, port: int, speed: float | None) -> None:
        import uvicorn

        connections.close_all()
        # After its shutdown uvicorn raises the signal again, which must not end this process before the replay.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        with contextlib.nullcontext() if speed is None else replaying(speed):
            uvicorn.run(
                "example_site.asgi:application",
                host=HOST,
                port=port,
                lifespan="off",
                log_level="warning",
                # As docs/deployment.md says: the loop takes turns between connections, and large messages are refused.
                loop="asyncio",
                ws_max_size=declbind_settings.MAX_FRAME_BYTES,
                ws_per_message_deflate=False,
                timeout_graceful_shutdown=3,
            )


@contextlib.contextmanager
def replaying(speed: float) -> Iterator[None]:
    """Run the replay beside the server, in a process of its own, like a real feed."""
    command = [sys.executable, str(SITE / "manage.py"), "replay", "--loop", "--speed", str(speed)]
    # If this process is killed, nothing would end the replay, so it checks for its parent itself.
    replay = subprocess.Popen([*command, "--parent", str(os.getpid())], start_new_session=True)
    try:
        yield
    finally:
        replay.terminate()
        try:
            replay.wait(5)
        except subprocess.TimeoutExpired:
            replay.kill()
