"""Shared steps of the browser tests."""

from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from playwright.sync_api import Page

from tests.servers import DjangoServer

PASSWORD = "password-of-the-test"


def make_user(username: str, *, is_staff: bool = False) -> User:
    """Create a user who can log in."""
    return get_user_model().objects.create_user(username, password=PASSWORD, is_staff=is_staff)


def log_in(page: Page, server: DjangoServer, username: str) -> None:
    """Log in through the site's own page."""
    page.goto(f"{server.url}/accounts/login/")
    page.fill("input[name=username]", username)
    page.fill("input[name=password]", PASSWORD)
    page.press("input[name=password]", "Enter")
    page.wait_for_url(f"{server.url}/")
