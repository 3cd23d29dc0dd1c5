"""The app config of the blog."""

from django.apps import AppConfig


class BlogConfig(AppConfig):
    name = "example_site.blog"
    label = "blog"
    verbose_name = "Live blog"
    default_auto_field = "django.db.models.BigAutoField"
