"""The form, the panel beside it and the JSON view: how a binding is edited."""
