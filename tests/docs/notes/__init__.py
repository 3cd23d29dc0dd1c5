"""The app that the examples of the documentation are about."""
