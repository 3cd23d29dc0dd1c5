"""Addresses of sockets."""

from django.urls import URLPattern, path

from notes.bindings import Demultiplexer

websocket_urlpatterns: list[URLPattern] = [path("ws/notes/", Demultiplexer.as_asgi(), name="notes")]
