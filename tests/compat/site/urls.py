"""Pages of the course's site: log in, log out, and write in one of several kinds of processes."""

from __future__ import annotations

import json

from django.contrib import admin
from django.contrib.auth import get_user_model, login, logout
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from .operations import perform

urlpatterns: list[object] = []


def log_in(request: HttpRequest, name: str) -> HttpResponse:
    """Log a user in and answer with the session's cookie."""
    users = get_user_model()
    user = users._default_manager.get(**{users.USERNAME_FIELD: name})
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    return JsonResponse({"user": str(user.pk)})


def visit(request: HttpRequest) -> HttpResponse:
    """Change the session, as a page with a shopping cart does; some stores then set another cookie."""
    request.session["visits"] = request.session.get("visits", 0) + 1
    return JsonResponse({"visits": request.session["visits"]})


def log_out(request: HttpRequest) -> HttpResponse:
    """End the session that the request's cookie names."""
    logout(request)
    return JsonResponse({})


@csrf_exempt
def write(request: HttpRequest, place: str) -> HttpResponse:
    """Perform the operation of the JSON body in this request, in a Celery worker or in a worker of `django.tasks`."""
    call = json.loads(request.body)
    if place == "celery":
        from .celery_jobs import run

        return JsonResponse({"result": run(call["name"], call["arguments"])})
    if place == "tasks":
        from .task_jobs import run_task

        return JsonResponse({"result": run_task(call["name"], call["arguments"])})
    return JsonResponse({"result": perform(call["name"], call["arguments"])})


urlpatterns += [
    path("login/<str:name>/", log_in),
    path("visit/", visit),
    path("logout/", log_out),
    path("write/<str:place>/", write),
    path("admin/", admin.site.urls),
]
