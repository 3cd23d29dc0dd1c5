"""The part of WebSocket that a benchmark needs: handshakes and frames over raw sockets, both ends.

A client library would need more time for a frame than the measured server. Compression is not offered.
"""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import struct

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
READ_BYTES = 1 << 18
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


def masked_frame(opcode: int, payload: bytes) -> bytes:
    """Return a client's frame; the mask is zero, which leaves the payload unchanged."""
    length = len(payload)
    size = bytes([0x80 | length]) if length < 126 else struct.pack("!BH", 0x80 | 126, length)
    return bytes([0x80 | opcode]) + size + b"\0\0\0\0" + payload


def server_frame(payload: bytes) -> bytes:
    """Return a server's text frame of fewer than 65 536 bytes."""
    length = len(payload)
    return bytes([0x80 | TEXT]) + (bytes([length]) if length < 126 else struct.pack("!BH", 126, length)) + payload


def split_frames(data: bytes) -> tuple[list[tuple[int, int, int]], int]:
    """Return (opcode, start, stop) of each whole frame of `data`, unmasked, and the start of the unfinished rest."""
    found = []
    position, end = 0, len(data)
    while end - position >= 2:
        length, start = data[position + 1] & 0x7F, position + 2
        if length == 126:
            if end - position < 4:
                break
            length, start = (data[position + 2] << 8) | data[position + 3], position + 4
        elif length == 127:
            if end - position < 10:
                break
            length, start = int.from_bytes(data[position + 2 : position + 10], "big"), position + 10
        if start + length > end:
            break
        found.append((data[position] & 0x0F, start, start + length))
        position = start + length
    return found, position


def ask_to_upgrade(port: int, path: str, subprotocol: str | None = None) -> bytes:
    """Return a client's opening request."""
    key = base64.b64encode(os.urandom(16)).decode()
    offered = f"Sec-WebSocket-Protocol: {subprotocol}\r\n" if subprotocol else ""
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{offered}\r\n"
    ).encode()


def accept_upgrade(request: bytes) -> bytes:
    """Return a server's answer to an opening request."""
    headers = dict(line.split(b": ", 1) for line in request.split(b"\r\n")[1:] if b": " in line)
    accept = base64.b64encode(hashlib.sha1(headers[b"Sec-WebSocket-Key"] + GUID).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )


def read_answer(open_socket: socket.socket) -> tuple[str | None, bytes]:
    """Read a server's answer from a blocking socket; return the chosen subprotocol, and the data after it."""
    head = b""
    while b"\r\n\r\n" not in head:
        head += read(open_socket)
    head, rest = head.split(b"\r\n\r\n", 1)
    if not head.startswith(b"HTTP/1.1 101"):
        raise SystemExit(f"expected 101 Switching Protocols, got {head[:200]!r}")
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"sec-websocket-protocol":
            return value.strip().decode(), rest
    return None, rest


def read(open_socket: socket.socket) -> bytes:
    """Read some bytes from a blocking socket; if it is closed, end the program."""
    data = open_socket.recv(READ_BYTES)
    if not data:
        raise SystemExit("the server closed a connection that was needed")
    return data
