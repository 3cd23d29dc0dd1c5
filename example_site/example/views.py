"""The home page and the board."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from example_site.example.accounts import ACCOUNTS
from example_site.example.models import IntegerValue


def home(request: HttpRequest) -> HttpResponse:
    """List the demos, and the demo accounts in debug mode."""
    return render(request, "example/home.html", {"accounts": ACCOUNTS if settings.DEBUG else ()})


def board(request: HttpRequest) -> HttpResponse:
    """Show the numbers; the script keeps them up to date."""
    return render(request, "example/board.html", {"values": IntegerValue.objects.all()})
