"""Live traffic: the events and requests of the last time, and how a page is kept up to date."""
