"""A custom user model without `username`, whose keys are UUIDs."""
