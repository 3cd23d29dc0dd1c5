"""Register the app under the label of its binding's model."""

from django.apps import AppConfig


class ExampleConfig(AppConfig):
    name = "example_site.example"
    label = "example"
    verbose_name = "Board of numbers"
    default_auto_field = "django.db.models.BigAutoField"
