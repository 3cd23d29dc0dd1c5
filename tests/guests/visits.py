"""Writes by requests to the admin's pages, through all of the project's middleware."""

from __future__ import annotations

from typing import Any

from .steps import Steps


def visit_admin(step: Steps, model: str) -> None:
    """Add steps that write a model of the project in the admin: add, change, an action on several rows, delete."""

    def browser():
        from django.contrib.auth.models import User
        from django.test import Client

        user, _ = User.objects.get_or_create(username="admin", is_staff=True, is_superuser=True)
        client = Client()
        client.force_login(user)
        return client

    def post(path, **values):
        answer = browser().post(f"/admin/mysite/{model}/{path}", values)
        assert answer.status_code == 302, answer.content.decode()[:2000]

    def rows(name):
        from django.apps import apps

        found: Any = apps.get_model("mysite", name)
        return found.objects

    def row(title):
        return rows(model).get(title=title)

    def labels(*names):
        return [rows("label").create(name=name).pk for name in names]

    @step
    def add_in_the_admin() -> None:
        post("add/", title="added", room=1, labels=labels("a", "b"))

    @step
    def change_in_the_admin() -> None:
        post(f"{row('added').pk}/change/", title="changed", room=2, labels=labels("c"))

    @step
    def look_in_the_admin() -> None:
        answer = browser().get(f"/admin/mysite/{model}/")
        assert answer.status_code == 200

    @step
    def delete_in_the_admin() -> None:
        post(f"{row('changed').pk}/delete/", post="yes")

    @step
    def delete_several_in_the_admin() -> None:
        post("add/", title="one", room=1)
        post("add/", title="two", room=1)
        keys = [row(title).pk for title in ("one", "two")]
        post("", action="delete_selected", _selected_action=keys, post="yes")
