"""The app config, with the label of the model of its binding."""

from django.apps import AppConfig


class ExampleConfig(AppConfig):
    name = "example_site.example"
    label = "example"
    verbose_name = "Board of numbers"
    default_auto_field = "django.db.models.BigAutoField"
