"""Opening a connection to a Redis or Valkey server, and single calls that are awaited.

Speaks TCP, TLS and unix sockets, AUTH and SELECT, and follows MOVED of a cluster. The connection itself is resp.py.
Called by log.py and calls.py.
"""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from schemas.log_url import server_urls
from tracker.resp import Connection, ConnectionLost, OnReply, Reply, ServerError, encode


async def connect(url: str, key: str, timeout_seconds: float) -> Connection:
    """Connect to the server that holds `key`: of a cluster, each of those that the URL names is asked until one leads
    there. Raises OSError, ServerError, ConnectionLost, TimeoutError."""
    *others, last = server_urls(url)
    for one in others:
        with suppress(OSError, ServerError, ConnectionLost, TimeoutError):
            return await _follow(one, key, timeout_seconds)
    return await _follow(last, key, timeout_seconds)


async def _follow(url: str, key: str, timeout_seconds: float) -> Connection:
    """By way of one server, following one MOVED."""
    async with asyncio.timeout(timeout_seconds):
        try:
            return await _open(url, key, None)
        except ServerError as error:
            if not str(error).startswith("MOVED "):
                raise
            host, _, port = str(error).split()[2].rpartition(":")
            return await _open(url, key, (host.strip("[]") or urlsplit(url).hostname or "localhost", int(port)))


async def _open(url: str, key: str, moved_to: tuple[str, int] | None) -> Connection:
    """A connection that has answered a question about the key, so is neither frozen nor loading nor misplaced."""
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    if parts.scheme == "unix":
        _, connection = await loop.create_unix_connection(Connection, parts.path)
        database = parse_qs(parts.query).get("db", ["0"])[0]
    else:
        tls: Any = ssl.create_default_context() if parts.scheme.startswith("rediss") else None
        host, port = moved_to or (parts.hostname or "localhost", parts.port or 6379)
        _, connection = await loop.create_connection(Connection, host, port, ssl=tls)
        database = parts.path.strip("/") or "0"
    try:
        if parts.password is not None:
            user = [unquote(parts.username).encode()] if parts.username else []
            await ask(connection, b"AUTH", *user, unquote(parts.password).encode())
        if database != "0" and "cluster" not in parts.scheme:
            await ask(connection, b"SELECT", database.encode())
        await ask(connection, b"EXISTS", key.encode())
    except BaseException:
        connection.abandon()  # a frozen server is probed four times a second: each would leave a socket open
        raise
    return connection


async def ask(connection: Connection, *arguments: bytes) -> bytes | int | list[bytes | int | None] | None:
    """One call, awaited. Raises ServerError or ConnectionLost."""
    reply = await reply_to(lambda on_reply: connection.call(encode(arguments), on_reply))
    if isinstance(reply, Exception):
        raise reply
    return reply


def reply_to(send: Callable[[OnReply], None]) -> "asyncio.Future[Reply]":
    """The reply to what `send` sends, errors included, to be awaited; whoever stops waiting for it disturbs nobody."""
    replied: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    send(lambda reply: None if replied.done() else replied.set_result(reply))
    return replied


async def knows(connection: Connection, command: bytes) -> bool:
    """Whether the server has such a command, and lets this user call it; called without what it needs. Raises
    ServerError or ConnectionLost."""
    try:
        await ask(connection, command)
    except ServerError as error:
        if "wrong number of arguments" in str(error):
            return True
        if str(error).startswith(("ERR unknown command", "NOPERM")):
            return False
        raise
    return True
