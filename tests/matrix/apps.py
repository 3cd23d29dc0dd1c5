from django.apps import AppConfig


class MatrixConfig(AppConfig):
    """The app of the models; their tables are made by the tests that use them (see ``sample.make_tables``)."""

    name = "tests.matrix"
    label = "matrix"
