"""Server-sent events that push rows to a live page, if the site is served by ASGI.

The rows and cursors are those of a poll, and the cursor is the id of each event. A browser that reconnects sends its
last id, so nothing is missed. Database work runs in the hub's threads, never on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.utils import translation

from admin_ui.common import screen
from admin_ui.common.screen import RecordAdmin
from admin_ui.common.visible import VisibleRows
from admin_ui.traffic import window
from admin_ui.traffic.answers import Answers
from admin_ui.traffic.wanted import Wanted, readable_models
from admin_ui.traffic.watching import renew_watch, watch_page
from declbind import tenancy
from declbind.conf import settings
from declbind.django_types import Operator
from declbind.inbound import permissions
from declbind.live.hub import LiveHub, get_hub
from declbind.outbound import relay
from declbind.registry import database_alias

#: At most four answers a second; one second after an answer that had to be sampled.
PAUSE_SECONDS, FULL_PAUSE_SECONDS = 0.25, 1.0
#: The intervals between updates of the charts, and between keep-alive lines for proxies.
EXTRAS_SECONDS, COMMENT_SECONDS = 1.0, 10.0
#: The interval between checks that the viewer may still watch.
CHECK_SECONDS = 5.0


def can_push(request: HttpRequest) -> bool:
    """Return whether the server of this request can send for as long as the page is open."""
    return isinstance(request, ASGIRequest)


def stream_view(model_admin: RecordAdmin, request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    """Return an endless stream of the rows after ``cursor``."""
    cursor = window.Cursor.parse(request.headers.get("Last-Event-ID") or request.GET.get("cursor", ""))
    if cursor is None:
        return JsonResponse({"error": "expected cursor=epoch:offset:number"}, status=400)
    if not can_push(request):
        return JsonResponse({"error": "push needs ASGI; ask live/rows/ instead"}, status=406)
    watch_page(request)
    viewer = Viewer(model_admin, request)
    return StreamingHttpResponse(
        push(viewer, cursor),
        content_type="text/event-stream",
        # For nginx, which would buffer the rows.
        headers={"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"},
    )


class Viewer:
    """The user of a stream. Every method reads the database, so call it in a thread of the hub."""

    def __init__(self, model_admin: RecordAdmin, request: HttpRequest) -> None:
        self._admin, self._request = model_admin, request
        self._language = translation.get_language()
        scope = {"user": request.user, "session": getattr(request, "session", None)}
        if tenancy.is_on():
            # The site's middleware has loaded the user in the tenant of the connection.
            scope[tenancy.SCOPE_KEY] = tenancy.of_connection(database_alias())
        self._identity = permissions.identify(scope, "admin")
        self.answers = Answers(model_admin, self._wanted(request.user))

    async def ask(self, hub: LiveHub, function: Callable[..., Any], *args: object) -> Any:
        """Call one of the methods in a thread of the hub, in the tenant and the language of the viewer."""
        return await hub.requests.run(tenancy.run_in, self._identity.tenant, self._speak, function, *args)

    def _speak(self, function: Callable[..., Any], *args: object) -> Any:
        # A thread of the hub knows nothing of the request.
        with translation.override(self._language):
            return function(*args)

    def _wanted(self, user: Operator) -> Wanted:
        visible = VisibleRows(self._admin.admin_site, self._request)
        return Wanted.read(self._request.GET, visible.unlimited(readable_models(user)))

    def check(self) -> bool:
        """Return whether session and permission still hold. Renews the watch, and the models that may be searched."""
        # The stubs of Django know one model of users, and the project may have another.
        user: Any = permissions.load_current_user(self._identity)
        if user is None:
            return False
        self._request.user = user
        if not (self._admin.admin_site.has_permission(self._request) and screen.may_watch(user)):
            return False
        renew_watch(user)
        self.answers.wanted = self._wanted(user)
        return True


async def push(
    viewer: Viewer, cursor: window.Cursor, now: Callable[[], float] = time.monotonic
) -> AsyncIterator[bytes]:
    """Yield server-sent events until the viewer may no longer watch, or disconnects."""
    hub = await get_hub()
    bell, key = asyncio.Event(), object()
    relay.add_listener(key, asyncio.get_running_loop(), bell.set)
    checked, said, drawn = now(), now(), float("-inf")
    try:
        yield b"retry: 1000\n\n"
        while True:
            bell.clear()
            if now() - checked >= CHECK_SECONDS:
                if not await viewer.ask(hub, viewer.check):
                    yield encode("over", {})
                    return
                checked = now()
            answer = await viewer.ask(hub, viewer.answers.rows, cursor)
            if now() - drawn >= EXTRAS_SECONDS:
                answer.update(await viewer.ask(hub, viewer.answers.extras))
                drawn = now()
            if answer["cursor"] != str(cursor) or answer["rows"] or "charts" in answer:
                yield encode("rows", answer, answer["cursor"])
                said = now()
            elif now() - said >= COMMENT_SECONDS:
                yield b": still here\n\n"
                said = now()
            if answer["reset"]:
                return
            cursor = window.Cursor.parse(answer["cursor"]) or cursor
            await asyncio.sleep(FULL_PAUSE_SECONDS if answer["every"] > 1 else PAUSE_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, settings.POLL_SECONDS - PAUSE_SECONDS)):
                    await bell.wait()
    finally:
        relay.remove_listener(key)


def encode(event: str, content: dict[str, object], last_id: str = "") -> bytes:
    """Return one server-sent event; JSON has no line breaks, so its data is one line."""
    head = f"id: {last_id}\n" if last_id else ""
    return f"{head}event: {event}\ndata: {json.dumps(content)}\n\n".encode()
