"""A view whose request does a piece of a writer's work."""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse
from django.urls import path

from .writer import Writer

#: The writers of this process, by number. Only one request at a time may use a writer.
writers: dict[int, Writer] = {}


def step(request: HttpRequest, number: int) -> JsonResponse:
    """Do a piece of work as the writer with this number, in the thread of this request."""
    return JsonResponse({"writes": writers[number].step()})


urlpatterns = [path("step/<int:number>", step)]
