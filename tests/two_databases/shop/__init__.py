"""An app whose rows are in another database than their users."""
