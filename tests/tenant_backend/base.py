"""PostgreSQL with a ``search_path`` that ``set_schema`` changes."""

from __future__ import annotations

import contextlib
from typing import Any

from django.db.backends.postgresql import base
from psycopg import Error, sql


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection that is in the schema of one tenant."""

    schema_name = "public"
    includes_public = True

    def set_schema(self, name: str, includes_public: bool = True) -> None:
        """Search a tenant's schema first for tables, and then the common one."""
        self.schema_name, self.includes_public = name, includes_public

    def _cursor(self, name: Any = None) -> Any:
        cursor = super()._cursor(name)  # type: ignore[misc]
        searched = [self.schema_name, *(["public"] if self.includes_public else [])]
        path = sql.SQL(", ").join(map(sql.Identifier, searched))
        # It is refused after an error, before the statement that rolls back to a savepoint.
        with contextlib.suppress(Error):
            self.connection.execute(sql.SQL("SET search_path = {}").format(path))
        return cursor
