"""Addresses of the blogs."""

from django.urls import path

from example_site.blog import views

urlpatterns = [
    path("", views.blogs, name="blogs"),
    path("<slug:slug>/", views.blog, name="blog"),
]
