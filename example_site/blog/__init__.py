"""A live blog: editors write from the page, readers watch. Bound by the JSON files in ``bindings/``."""
