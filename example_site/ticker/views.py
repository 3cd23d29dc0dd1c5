"""The page of the ticker."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from example_site.ticker.stocks import COMPANIES


def ticker(request: HttpRequest) -> HttpResponse:
    """Show a chart; its prices arrive by subscription, one for each ticked symbol."""
    return render(request, "ticker/ticker.html", {"companies": COMPANIES})
