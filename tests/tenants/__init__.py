"""Tenants: classes that distinguish them, in this process; and django-tenants, in processes of its own."""
