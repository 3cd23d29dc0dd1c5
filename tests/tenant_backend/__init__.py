"""A database backend that switches schemas, as those of packages for tenants do."""
