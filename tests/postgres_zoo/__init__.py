"""Columns that only PostgreSQL has; installed when the suite runs on it."""
