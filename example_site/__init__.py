"""A small site with three live pages, each with a binding from another source.

``example``  a board of numbers; the binding is a class in ``example/bindings.py``
``blog``     posts that editors write and readers watch; the bindings are JSON files in ``blog/bindings/``
``ticker``   replayed share prices; the binding is a database row, loaded from ``ticker/fixtures/``

``python example_site/manage.py demo`` prepares everything and starts it.
"""
