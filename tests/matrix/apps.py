from django.apps import AppConfig


class MatrixConfig(AppConfig):
    """Install the models; their tables are made by the tests that use them (see ``stage.make_tables``)."""

    name = "tests.matrix"
    label = "matrix"
