"""The real servers that tests and benchmarks use: PostgreSQL, MariaDB, Redis, a Django site.

Each class runs one process on a free loopback port. Use it as a context manager, or call `start()` and `close()`. A
server that was stopped or killed starts again on its old port with its old data, as fault tests require. Only
processes started here are ever signalled, and on Linux they die with the process that started them.

To add a server, add a module with a subclass of `Server`, and name it here.
"""

from .mariadb import MariaDBServer
from .postgres import PostgresServer
from .process import ROOT, Server, ServerError, find_free_port
from .redis import RedisServer, find_valkey
from .site import DjangoServer

__all__ = [
    "ROOT",
    "DjangoServer",
    "MariaDBServer",
    "PostgresServer",
    "RedisServer",
    "Server",
    "ServerError",
    "find_free_port",
    "find_valkey",
]
