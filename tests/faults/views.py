"""Let a request be a piece of a writer's work."""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse
from django.urls import path

from .writer import Writer

#: The writers of this process, by number. One request at a time may work as a given one.
writers: dict[int, Writer] = {}


def step(request: HttpRequest, number: int) -> JsonResponse:
    """Do a piece of work as the writer of this number, in the thread of this request."""
    return JsonResponse({"writes": writers[number].step()})


urlpatterns = [path("step/<int:number>", step)]
