"""A database backend that switches schemas, like those of packages for tenants."""
