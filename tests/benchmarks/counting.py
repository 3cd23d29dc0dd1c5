"""A header with the number of an answer's queries, which cannot be counted outside the server process."""

from __future__ import annotations

from collections.abc import Callable

from django.db import connection
from django.http import HttpRequest, HttpResponseBase

HEADER = "X-Queries"


class QueryCount:
    """A middleware outside all others, so that the session's and the user's queries are counted too."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        count = 0

        def execute(carry_out, *arguments):
            nonlocal count
            count += 1
            return carry_out(*arguments)

        with connection.execute_wrapper(execute):
            response = self.get_response(request)
        response[HEADER] = str(count)
        return response
