"""The state of wake-ups and registry in a forked child: nothing of the parent's work in progress."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.servers import ROOT

from .databases import environment

#: A thread of the parent holds each lock when the parent forks, and never releases it in the child.
FORK = """
import os, signal, threading
import django
django.setup()
from declbind import registry
from declbind.outbound import relay

class Loop:
    def call_soon_threadsafe(self, *args, **kwargs):
        os._exit(3)

relay.add_listener("a hub", Loop(), print)
held = threading.Event()

def hold():
    with relay._ringer._lock, relay._ringer._wanted._cond, relay._listeners_lock, registry._holder.lock:
        registry._holder.registry = None  # as when bindings are loaded for the first time
        held.set()
        threading.Event().wait()

threading.Thread(target=hold, daemon=True).start()
held.wait()
child = os.fork()
if child == 0:
    signal.alarm(10)
    registry.current_registry()
    relay.ring("default")
    os._exit(0)
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_child_writes_whatever_its_parent_was_at(tmp_path: Path) -> None:
    """A child waits for no lock of the parent, and wakes no loop that does not run in it."""
    database = {**environment(f"sqlite:///{tmp_path / 'none.sqlite3'}"), "CHANNEL_LAYER_URL": "redis://127.0.0.1:1/0"}
    env = {key: value for key, value in {**os.environ, **database}.items() if value is not None}
    done = subprocess.run([sys.executable, "-c", FORK], env=env, cwd=ROOT, timeout=20, check=False)
    assert done.returncode == 0
