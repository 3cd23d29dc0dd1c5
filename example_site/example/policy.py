"""A strict Content-Security-Policy, to show that the pages and the client work under one."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

# connect-src follows default-src, and 'self' covers the page's own WebSocket.
POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)


def content_security_policy(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Allow only scripts, styles and connections of this site, and nothing inline."""

    def respond(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        return response

    return respond
