"""Share prices of 2000 to 2010, replayed. Bound by a database row: ``fixtures/ticker_binding.json``."""
