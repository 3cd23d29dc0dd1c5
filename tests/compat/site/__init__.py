"""The Django site that the course runs in each cell; the environment says how it is set up."""
