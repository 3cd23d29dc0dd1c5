"""The health page for load balancers and monitoring: ``path("declbind/", include("declbind.urls"))``."""

from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.utils.crypto import constant_time_compare

from declbind.conf import settings
from declbind.live.health import measure
from declbind.tenancy import is_operator_of_all

app_name = "declbind"


def health(request: HttpRequest) -> JsonResponse:
    """Answer with 200, or with 503 if this process should get no traffic.

    Anonymous requests get ``{"ok": true}`` or ``{"ok": false}``. Users with the permission ``declbind.view_node``,
    and requests with the header ``Authorization: Bearer HEALTH_TOKEN``, also get numbers about the state. The answer
    contains no names and no rows.
    """
    state = measure()
    shown = state if _may_see_numbers(request) else {"ok": state["ok"]}
    response = JsonResponse(shown, status=200 if state["ok"] else 503)
    response["Cache-Control"] = "no-store"
    return response


def _may_see_numbers(request: HttpRequest) -> bool:
    token = settings.HEALTH_TOKEN
    if token and constant_time_compare(request.headers.get("Authorization", ""), f"Bearer {token}"):
        return True
    try:
        user = getattr(request, "user", None)
        # The numbers cover all tenants together.
        return user is not None and bool(user.has_perm("declbind.view_node")) and is_operator_of_all()
    except Exception:  # the users' database does not answer, which is a state that this page reports
        return False


urlpatterns = [path("health/", health, name="health")]
