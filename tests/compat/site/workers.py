"""The worker class of gunicorn that `docs/deployment.md` gives."""

from uvicorn_worker import UvicornWorker


class BindingsWorker(UvicornWorker):
    """uvicorn in gunicorn, with a limit for the size of messages."""

    CONFIG_KWARGS = {**UvicornWorker.CONFIG_KWARGS, "ws_max_size": 65536}
