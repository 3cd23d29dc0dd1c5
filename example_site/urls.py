"""Addresses of the example site's pages; those of the WebSockets are in ``asgi.py``."""

from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path

from example_site.example import views

urlpatterns = [
    path("", views.home, name="home"),
    path("board/", views.board, name="board"),
    path("blog/", include("example_site.blog.urls")),
    path("ticker/", include("example_site.ticker.urls")),
    path("accounts/login/", LoginView.as_view(next_page="home"), name="login"),
    path("accounts/logout/", LogoutView.as_view(next_page="home"), name="logout"),
    path("admin/", admin.site.urls),
    path("declbind/", include("declbind.urls")),
]
