"""The Django site that the course runs in each cell, configured by the environment."""
