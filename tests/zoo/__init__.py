"""An app of awkward models, for the edges of what can be bound."""
