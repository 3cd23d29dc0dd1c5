"""The attack on a server: sockets that send generated frames, sockets that must not be affected, and the checks."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import re
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import psutil  # type: ignore[import-untyped]
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.benchmarks.wire import ask_to_upgrade
from tests.servers import ROOT, DjangoServer

from .frames import STREAMS, Frame, Generator
from .prepare import LOCKED, USERS, session_key
from .sabotage import VARIABLE

#: Frames between two checks.
BATCH = 500
#: How long an answer may take while the server works on what came before.
PATIENCE = 60.0
#: Of the frames, how many go by before memory is measured: caches fill, threads start, tables reach their size.
WARM_UP = 0.3
#: How much a server may grow after that.
GROWTH = 24 * 1024 * 1024
#: What is written to the log when something went wrong.
FAULT = re.compile(r"Traceback|\b(ERROR|CRITICAL)\b|never retrieved|never awaited|Cannot change state|exception was")
#: What uvicorn itself writes, with tracebacks, before it closes a socket whose text was none. If the client has said
#: that it closes the socket, uvicorn fails over that.
OWN_WORDS = re.compile(
    r"ERROR: +Invalid UTF-8 sequence received from client\.\nTraceback.*?\nUnicodeDecodeError:[^\n]*\n"
    r"(Fatal error(?:(?!Fatal error).)*?InvalidState: connection is closing\n)?",
    re.S,
)
#: Who sends: three without a name, three as one user.
ATTACKERS = ("", "", "", "mallory", "mallory", "mallory")

#: What must stay as it is, whatever is sent.
PROTECTED = (
    "SELECT * FROM auth_user ORDER BY id",
    "SELECT * FROM auth_user_user_permissions",
    "SELECT * FROM auth_user_groups",
    "SELECT * FROM django_session ORDER BY session_key",
    "SELECT * FROM fuzzing_notice ORDER BY id",
    "SELECT * FROM fuzzing_letter WHERE owner_id <> 1 ORDER BY id",
    "SELECT id FROM fuzzing_tick",
    f"SELECT id FROM fuzzing_board WHERE shown <> '{LOCKED}' OR hidden <> '{LOCKED}'",
    "SELECT * FROM declbind_bindingrecord",
    "SELECT * FROM declbind_block",
)


class Breach(AssertionError):
    """A forbidden effect of a frame; ``check`` is the name of the check that found it."""

    def __init__(self, check: str, what: str) -> None:
        super().__init__(f"[{check}] {what}")
        self.check = check


@dataclass
class Outcome:
    """The numbers of frames that were sent, and the answers to them."""

    frames: int = 0
    answers: int = 0
    ok: int = 0
    grown: int = 0
    codes: dict[str, int] = field(default_factory=dict)


class Attacker:
    """A socket that sends frames, and reads everything that it receives."""

    def __init__(self, connection: ClientConnection, outcome: Outcome) -> None:
        self.connection, self._outcome = connection, outcome
        #: The last replies to ``subscribe``: what may be resumed.
        self.known: dict[str, object] = {}
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in self.connection:
                payload = json.loads(text)["payload"]
                if payload.get("action") != "reply":
                    continue
                self._outcome.answers += 1
                if payload["ok"]:
                    self._outcome.ok += 1
                    if "resume" in payload:
                        self.known[payload["group"]] = payload
                else:
                    code = payload["error"]["code"]
                    self._outcome.codes[code] = self._outcome.codes.get(code, 0) + 1
                waiting = self._waiting.pop(str(payload["ref"]), None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(None)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ConnectionError(f"closed with {self.connection.close_code}"))

    async def send(self, frame: Frame) -> None:
        """Send one frame in the given number of fragments."""
        data = frame.data
        if frame.parts == 1:
            await self.connection.send(data)
            return
        size = len(data) // frame.parts + 1
        await self.connection.send([data[start : start + size] for start in range(0, len(data), size)])

    async def ask_all(self, number: int) -> None:
        """Send a request to each stream and wait for the replies: everything sent before has been processed."""
        for stream in STREAMS:
            ref = f"sync {number} {stream}"
            waiting = self._waiting[ref] = asyncio.get_running_loop().create_future()
            await self.connection.send(json.dumps({"stream": stream, "payload": {"action": "sync", "ref": ref}}))
            await waiting

    async def close(self) -> None:
        """Close the connections."""
        await self.connection.close()
        await self._reader


class Witness:
    """A client that must not be affected, and the client whose writes it reads."""

    def __init__(self, reader: ClientConnection, writer: ClientConnection) -> None:
        self._reader, self._writer = reader, writer
        self.number = 0

    async def subscribe(self) -> None:
        """Subscribe to the changes."""
        await self._reader.send('{"stream":"tick","payload":{"action":"subscribe","ref":1}}')
        reply = json.loads(await self._reader.recv())
        assert reply["payload"]["ok"], reply

    async def check(self) -> None:
        """Write, and expect that both clients receive that event and nothing else."""
        self.number += 1
        payload = {"action": "update", "pk": 1, "data": {"number": self.number}, "ref": self.number}
        await self._writer.send(json.dumps({"stream": "tick", "payload": payload}))
        reply = json.loads(await self._writer.recv())["payload"]
        if reply.get("ref") != self.number or not reply.get("ok"):
            raise Breach("witness", f"expected the reply to write {self.number}, got {reply}")
        frame = json.loads(await self._reader.recv())
        if frame["payload"].get("data") != {"number": self.number} or frame["payload"].get("action") != "update":
            raise Breach("witness", f"expected one event of write {self.number}, got {frame}")

    async def check_silence(self) -> None:
        """Expect that nothing more was received: a reply of the server follows everything that it sent before."""
        for connection in (self._reader, self._writer):
            await connection.send('{"stream":"tick","payload":{"action":"sync","ref":"end"}}')
            frame = json.loads(await connection.recv())
            if frame["payload"].get("ref") != "end":
                raise Breach("witness", f"expected nothing more, got {frame}")


class Siege:
    """A site with a server of its own, and the attack on it."""

    def __init__(
        self,
        program: str,
        seed: int,
        *,
        sabotage: str = "",
        limits: str = "{}",
        patience: float = PATIENCE,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.seed, self._patience = seed, patience
        self._directory = Path(tempfile.mkdtemp(prefix="declbind-fuzzing-"))
        self._database = self._directory / "site.sqlite3"
        env: dict[str, str | None] = {
            "DJANGO_SETTINGS_MODULE": "tests.attack.fuzzing.settings",
            "DATABASE_URL": f"sqlite:///{self._database}",
            "CHANNEL_LAYER_URL": None,
            "TEST_DATABASE": None,
            "FUZZING_DECLBIND": limits,
            VARIABLE: sabotage,
            # Otherwise each thread has an arena of its own for memory, and each of them grows.
            "MALLOC_ARENA_MAX": "1",
            **environment,
        }
        # Not uvloop, which uvicorn would use here: what declbind asks of the transport is under fire as well.
        arguments = ["--loop", "asyncio"] if program == "uvicorn" else []
        self.server = DjangoServer("tests.faults.asgi:application", env=env, program=program, arguments=arguments)
        self.outcome = Outcome()
        self._generator = Generator(seed)
        #: Chooses between what differs from run to run.
        self._chance = random.Random(seed)
        self._digest = ""
        self._log_read = 0
        self._sent: list[tuple[int, Frame]] = []

    def __enter__(self) -> Siege:
        prepare = [sys.executable, "-m", "tests.attack.fuzzing.prepare"]
        subprocess.run(prepare, cwd=ROOT, env=dict(self.server.environment()), check=True, timeout=120)
        self.server.start()
        self._digest = self._digest_now()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.server.close()
        for path in self._directory.iterdir():
            path.unlink()
        self._directory.rmdir()

    async def run(self, frames: int) -> Outcome:
        """Send this many frames; raises ``Breach`` with the seed and the frames that reproduce it."""
        process = psutil.Process(self.server.pid)
        before = 0
        try:
            async with self._connected() as (attackers, witness):
                await witness.subscribe()
                while self.outcome.frames < frames:
                    self._sent.clear()
                    await self._send_batch(attackers)
                    await self._replace_one(attackers)
                    await self._break_off()
                    await self._check(attackers, witness)
                    if not before and self.outcome.frames >= WARM_UP * frames:
                        before = process.memory_info().rss
                await witness.check_silence()
            self.outcome.grown = process.memory_info().rss - before
            if self.outcome.grown > GROWTH:
                raise Breach("memory", f"the server has grown by {self.outcome.grown >> 20} MiB since the warm-up")
        except Breach as breach:
            breach.add_note(self._explain())
            raise
        return self.outcome

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[list[Attacker], Witness]]:
        async with contextlib.AsyncExitStack() as stack:
            attackers = [Attacker(await self._connect(name), self.outcome) for name in ATTACKERS]
            stack.push_async_callback(self._close_all, attackers)
            reader = await stack.enter_async_context(await self._connect(""))
            writer = await stack.enter_async_context(await self._connect(USERS[2]))
            yield attackers, Witness(reader, writer)

    @staticmethod
    async def _close_all(attackers: list[Attacker]) -> None:
        for attacker in attackers:
            await attacker.close()

    async def _replace_one(self, attackers: list[Attacker]) -> None:
        """Drop an attacker while its requests are in progress, with or without a close, and add another one."""
        number = self._chance.randrange(len(attackers))
        if self._chance.random() < 0.5:
            attackers[number].connection.transport.abort()
        await attackers[number].close()
        attackers[number] = Attacker(await self._connect(ATTACKERS[number]), self.outcome)

    async def _break_off(self) -> None:
        """Send invalid UTF-8 as text, which WebSocket forbids, and end a handshake before its answer."""
        async with await self._connect("") as connection:
            with contextlib.suppress(ConnectionClosed):
                await connection.send(b"\xff" + self._chance.randbytes(20), text=True)
                await connection.recv()
        _, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        writer.write(ask_to_upgrade(self.server.port, "/ws/bindings/"))
        await writer.drain()
        writer.transport.abort()

    async def _connect(self, name: str) -> ClientConnection:
        headers = {"Cookie": f"sessionid={session_key(name)}"} if name else {}
        address = f"{self.server.websocket_url}/ws/bindings/"
        return await connect(
            address,
            additional_headers=headers,
            max_size=None,
            max_queue=None,
            ping_interval=None,
            compression=None,
            close_timeout=1,
        )

    async def _send_batch(self, attackers: list[Attacker]) -> None:
        known = {
            f"{number} {group}": reply for number, each in enumerate(attackers) for group, reply in each.known.items()
        }
        for _ in range(BATCH):
            number = self._chance.randrange(len(attackers))
            frame = self._generator.next().fill(known, self._chance)
            self._sent.append((number, frame))
            self.outcome.frames += 1
            try:
                async with asyncio.timeout(self._patience):
                    if self._chance.random() < 0.02:
                        # One that nobody has asked for.
                        await attackers[number].connection.pong(self._chance.randbytes(100))
                    await attackers[number].send(frame)
            except (TimeoutError, ConnectionClosed) as error:
                raise Breach("answer", f"socket {number} takes no more frames: {error!r}") from None

    async def _check(self, attackers: list[Attacker], witness: Witness) -> None:
        number = 0
        try:
            async with asyncio.timeout(self._patience):
                for number, attacker in enumerate(attackers):  # noqa: B007, the message has it
                    await attacker.ask_all(self.outcome.frames)
        except (TimeoutError, ConnectionError, ConnectionClosed) as error:
            self._check_log()
            raise Breach("answer", f"socket {number} is not answered: {error!r}") from None
        self._check_log()
        if not self.is_unchanged():
            raise Breach("changed", "rows have changed that no client may change")
        try:
            async with asyncio.timeout(self._patience):
                await witness.check()
        except (TimeoutError, ConnectionClosed) as error:
            raise Breach("witness", f"another client is not served: {error!r}") from None

    def _check_log(self) -> None:
        text = self.server.log_text()
        new, self._log_read = text[self._log_read :], len(text)
        if FAULT.search(OWN_WORDS.sub("", new)):
            raise Breach("exception", f"the server's log has:\n{new[-3000:]}")

    def is_unchanged(self) -> bool:
        """Return whether all rows that no client may change are unchanged."""
        return self._digest_now() == self._digest

    def _digest_now(self) -> str:
        digest = hashlib.sha256()
        with contextlib.closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)) as connection:
            for query in PROTECTED:
                digest.update(repr(connection.execute(query).fetchall()).encode())
        return digest.hexdigest()

    def _explain(self) -> str:
        path = Path(tempfile.gettempdir()) / f"declbind-fuzzing-{self.seed}.txt"
        lines = [f"{number} {frame.parts} {frame.data!r}" for number, frame in self._sent]
        path.write_text("\n".join(lines))
        return (
            f"seed {self.seed}, {self.server.program}, frames {self.outcome.frames - len(self._sent)} to "
            f"{self.outcome.frames}; they are in {path} (socket, fragments, data). The last ones:\n"
            + "\n".join(line[:300] for line in lines[-20:])
        )
