"""Wake-ups over the channel layer: they reach other processes, and no writer waits for them."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.servers import ROOT, DjangoServer, RedisServer
from tests.test_processes import open_reader
from tests.writer import start_writer

SAVE = "from example_site.example.models import IntegerValue; IntegerValue.objects.create(name='last', value=1)"


def run_command(server: DjangoServer) -> subprocess.CompletedProcess[str]:
    """Save a bound row in a short-lived process, as a management command does."""
    command = [sys.executable, "-m", "django", "shell", "-v", "0", "-c", SAVE]
    return subprocess.run(
        command, env=dict(server.environment()), cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize("layer", ["alive", "dead", "stopped"])
def test_a_process_that_wrote_can_end(server_env: dict[str, str | None], redis_server: RedisServer, layer: str) -> None:
    """A command that sent a wake-up ends at once, whatever the state of the channel layer."""
    server = DjangoServer(env={**server_env, "CHANNEL_LAYER_URL": redis_server.url})
    if layer == "dead":
        redis_server.kill()
    elif layer == "stopped":
        redis_server.pause()
    try:
        done = run_command(server)
    finally:
        if layer == "stopped":
            redis_server.resume()
        server.close()
    assert done.returncode == 0, done.stderr


def test_a_wake_up_is_faster_than_polling(
    django_server: Callable[..., DjangoServer], redis_server: RedisServer
) -> None:
    """With a poll interval of a minute a frame still arrives, because the writing process sent a wake-up."""
    # Polling is the fallback; here only the wake-up can be in time.
    server = django_server(env={"CHANNEL_LAYER_URL": redis_server.url, "DECLBIND_POLL_SECONDS": "60"})
    with start_writer(dict(server.environment())) as writer, open_reader(server) as reader:
        assert reader.request({"action": "subscribe"}, stream="intval")["ok"]
        pk = writer.save("example.IntegerValue", name="rung", value=1)
        assert reader.wait(lambda payload: payload["action"] == "create")["pk"] == pk
