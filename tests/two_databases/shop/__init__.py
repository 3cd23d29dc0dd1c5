"""An app whose rows are in another database than the users that they belong to."""
