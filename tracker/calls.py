"""The log server for reports: redis-py's words, many calls in flight on one connection, a tenth of its time.

redis-py's asyncio client takes a connection and some 120 µs for each call; here calls of all requests share the
connection of their shard (resp.py), so that what comes together is also fsynced together. Only what conversions.py
uses is here. It fails as redis-py does, and at once while a server is away. Called by conversions.
"""

import asyncio
from collections.abc import Mapping, Sequence
from hashlib import sha1
from typing import Any

from redis.exceptions import ConnectionError, RedisError, ResponseError, TimeoutError

from schemas.keys import server
from schemas.log_server import is_noted
from tracker.dial import ask, connect, reply_to
from tracker.resp import Connection, ConnectionLost, Reply, ServerError, Word, encode

_LEFT_ALONE_SECONDS = 0.25
_GONE_ASTRAY = ("MOVED", "NOSCRIPT", "READONLY")
"""Errors of a server that is not, or no longer, the one that was connected to: the next call connects anew."""


class Calls:
    """Calls to the servers of a log. `timeout_seconds` is for a call and for a connection alike."""

    def __init__(self, url: str, timeout_seconds: float) -> None:
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._lines: dict[str, _Line] = {}
        self._scripts: list[bytes] = []

    def register_script(self, text: str) -> "Script":
        """A script that is there on every connection."""
        self._scripts.append(text.encode())
        return Script(self, sha1(text.encode()).hexdigest())

    async def get(self, key: str) -> Any:
        return await self.call(key, "GET", key)

    async def mget(self, key: str | Sequence[str], *others: str) -> Any:
        """The values of keys that are on one shard."""
        names = [*([key] if isinstance(key, str) else key), *others]
        return await self.call(names[0], "MGET", *names)

    async def exists(self, key: str) -> Any:
        return await self.call(key, "EXISTS", key)

    async def xadd(self, stream: str, fields: Mapping[str, Word]) -> Any:
        return await self.call(stream, "XADD", stream, "*", *(word for field in fields.items() for word in field))

    async def call(self, key: str, *words: Word) -> Any:
        """The reply to a command about this key and others of its shard. Raises RedisError."""
        tag = key[key.find("{") + 1 : key.find("}")]
        line = self._lines.get(tag)
        if line is None:
            line = self._lines[tag] = _Line(self._url, key, self._timeout_seconds, self._scripts)
        return await line.call(encode(words))

    def close(self) -> None:
        for line in self._lines.values():
            line.give_up(ConnectionError("closed"))


class Script:
    """A script of the log server, called by its digest."""

    def __init__(self, calls: Calls, digest: str) -> None:
        self._calls = calls
        self._digest = digest

    async def __call__(self, keys: Sequence[str], args: Sequence[Word]) -> Any:
        return await self._calls.call(keys[0], "EVALSHA", self._digest, len(keys), *keys, *args)


class _Line:
    """The connection to one shard: made at need, given up with everything on it when a call takes too long."""

    def __init__(self, url: str, key: str, timeout_seconds: float, scripts: Sequence[bytes]) -> None:
        self._url = url
        self._key = key
        self._timeout_seconds = timeout_seconds
        self._scripts = scripts
        self._connection: Connection | None = None
        self._in_flight: set[asyncio.Future[Reply]] = set()
        self._connecting = asyncio.Lock()
        self._left_alone_until = 0.0

    async def call(self, payload: bytes) -> Any:
        loop = asyncio.get_running_loop()
        connection = self._connection
        if connection is None or not connection.is_open:
            connection = await self._connect()
        replied = reply_to(lambda on_reply: connection.call(payload, on_reply))
        self._in_flight.add(replied)
        timer = loop.call_later(self._timeout_seconds, self.give_up, TimeoutError("the log server takes too long"))
        try:
            reply = await replied
        finally:
            timer.cancel()
            self._in_flight.discard(replied)
        if isinstance(reply, ConnectionLost):
            raise ConnectionError(str(reply))
        if isinstance(reply, ServerError):
            error = ResponseError(str(reply))
            if str(reply).startswith(_GONE_ASTRAY):
                self.give_up(error)
            raise error
        return reply

    async def _connect(self) -> Connection:
        async with self._connecting:
            if self._connection is not None and self._connection.is_open:
                return self._connection
            loop = asyncio.get_running_loop()
            if loop.time() < self._left_alone_until:
                raise ConnectionError("the log server is away")
            connection = None
            try:
                connection = await connect(self._url, self._key, self._timeout_seconds)
                async with asyncio.timeout(self._timeout_seconds):
                    for script in self._scripts:
                        await ask(connection, b"SCRIPT", b"LOAD", script)
                    await self._refuse_if_unknown(connection)
            except (OSError, TimeoutError, ServerError, ConnectionLost, RedisError) as error:
                self._left_alone_until = loop.time() + _LEFT_ALONE_SECONDS
                if connection is not None:
                    connection.abandon()
                raise ConnectionError(str(error) or "the log server cannot be reached") from error
            self._connection = connection
            return connection

    async def _refuse_if_unknown(self, connection: Connection) -> None:
        """A server from an older copy of its data has forgotten orders, and looks ready."""
        tag = self._key[self._key.find("{") + 1 : self._key.find("}")]
        info, noted = await ask(connection, b"INFO", b"server"), await ask(connection, b"GET", server(tag).encode())
        assert isinstance(info, bytes) and (noted is None or isinstance(noted, bytes))
        if not is_noted(info, noted):
            raise ConnectionLost("the log server has started anew and has not been looked at yet")

    def give_up(self, error: RedisError) -> None:
        """End the connection; every call on it fails with this error: it may have been done all the same."""
        if self._connection is not None:
            self._connection.abandon()
        self._connection = None
        for replied in self._in_flight:
            if not replied.done():
                replied.set_exception(error)
