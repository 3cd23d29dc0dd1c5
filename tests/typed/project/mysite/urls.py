"""Addresses of the project."""

from django.urls import include, path
from notes.views import show_token

urlpatterns = [
    path("declbind/", include("declbind.urls")),
    path("token/", show_token),
]
