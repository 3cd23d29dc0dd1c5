"""Mount the page for load balancers and monitoring: ``path("declbind/", include("declbind.urls"))``."""

from django.http import HttpRequest, JsonResponse
from django.urls import path

from declbind.live.health import measure

app_name = "declbind"


def health(request: HttpRequest) -> JsonResponse:
    """Answer 200 with the state as JSON, or 503 where this process should get no traffic. Names nobody and no rows."""
    state = measure()
    response = JsonResponse(state, status=200 if state["ok"] else 503)
    response["Cache-Control"] = "no-store"
    return response


urlpatterns = [path("health/", health, name="health")]
