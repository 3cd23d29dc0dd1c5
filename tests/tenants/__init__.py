"""Tenants: a class that tells them apart, in this process; and django-tenants for real, in processes of its own."""
