"""One connection to a Redis or Valkey server for the click path: calls and transactions, their replies to a callback.

Group commit needs one transaction a batch; redis-py's asyncio client costs about 150 µs a call and 1 µs an argument,
this one 20 µs and 0.2. How it is opened is in dial.py. Leaves out replies that nothing here asks for: maps, sets,
nested arrays. Called by the log and by calls.py only; everything else uses redis-py.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Any, cast

Word = str | bytes | int
Reply = bytes | int | list["bytes | int | None"] | Exception | None
OnReply = Callable[[Reply], None]

_LIST_HEAD = re.compile(rb"\*([0-9]+)\r\n").match


class ServerError(Exception):
    """An error reply; its text begins with Redis's error code."""


class ConnectionLost(Exception):
    """The connection ended, or could not be made, before the reply came."""


class Connection(asyncio.Protocol):
    """Sends calls, hands each reply to its callback in order."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiting: list[tuple[OnReply, bytes]] = []
        self._buffer = b""
        self._begun: tuple[list[Any], int] | None = None
        """A list whose end is still to come: its first replies, and how many there will be. Nothing of it is parsed
        twice: the claims of a batch may be 30 MB."""

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def call(self, payload: bytes, on_reply: OnReply) -> None:
        """Send an encoded call; `on_reply` gets its reply, or ConnectionLost."""
        if self._transport is None or self._transport.is_closing():
            on_reply(ConnectionLost("not connected"))
            return
        self._waiting.append((on_reply, b""))
        self._transport.write(payload)

    def transact(self, commands: Sequence[bytes], on_reply: OnReply) -> None:
        """Send encoded commands that are done all or none; `on_reply` gets the list of their replies, or the error of
        one of them."""
        if self._transport is None or self._transport.is_closing():
            on_reply(ConnectionLost("not connected"))
            return
        self._waiting.append((on_reply, b"+OK\r\n" + b"+QUEUED\r\n" * len(commands)))
        self._transport.write(b"*1\r\n$5\r\nMULTI\r\n%b*1\r\n$4\r\nEXEC\r\n" % b"".join(commands))

    def abandon(self) -> None:
        """Close at once; callbacks of calls in flight are not called any more."""
        self._waiting.clear()
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class is no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        waiting, self._waiting = self._waiting, []
        for on_reply, _ in waiting:
            on_reply(ConnectionLost(str(exc or "closed by the server")))

    def data_received(self, data: bytes) -> None:
        self._buffer = data = self._buffer + data if self._buffer else data
        while data:
            on_reply, receipts = self._waiting[0] if self._waiting else (_drop, b"")
            if self._begun is None and (parsed := _parse_behind(receipts, data)) is not None:
                reply, used = parsed
            else:
                if self._begun is None:
                    head = None if receipts else _LIST_HEAD(data)
                    if head is None:
                        break
                    self._begun, data = ([], int(head[1])), data[head.end() :]
                replies, count = self._begun
                used = _parse_more(replies, data, 0, count)
                if len(replies) < count:
                    data = data[used:]
                    break
                reply, self._begun = _all_or_error(replies), None
            data = data[used:]
            del self._waiting[:1]
            on_reply(reply)
        self._buffer = data


def encode(arguments: Sequence[Word]) -> bytes:
    """A call as the protocol wants it: an array of strings."""
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        word = argument if isinstance(argument, bytes) else str(argument).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(word), word))
    return b"".join(parts)


def _drop(_: Reply) -> None:
    """For a reply that nobody waits for."""


def _parse_behind(receipts: bytes, data: bytes) -> tuple[Reply, int] | None:
    """The reply behind the receipts of a transaction's commands (if there are any), and where it ends."""
    if data.startswith(receipts):
        return _parse(data, len(receipts))
    if receipts.startswith(data):
        return None
    parsed, end = None, 0  # a command was refused: so is the transaction, which is said last
    for _ in range(receipts.count(b"\r\n") + 1):
        parsed = _parse(data, end)
        if parsed is None:
            return None
        end = parsed[1]
    return parsed


def _parse(data: bytes, start: int = 0) -> tuple[Reply, int] | None:
    """The reply that begins there and where it ends, or None where it is not all there."""
    end = data.find(b"\r\n", start)
    if end < 0:
        return None
    if end == start:  # no reply of the protocol; and mypyc 2.4 cannot take a slice that ends before it begins
        return ServerError("an empty line"), end + 2
    kind, head = data[start : start + 1], data[start + 1 : end]
    if kind == b":":
        return int(head), end + 2
    if kind == b"-":
        return ServerError(head.decode("utf-8", "replace")), end + 2
    if kind == b"$" and head == b"-1":
        return None, end + 2
    if kind == b"$":
        stop = end + 2 + int(head)
        if stop < end + 2:
            return ServerError("a negative length"), end + 2
        return (data[end + 2 : stop], stop + 2) if len(data) >= stop + 2 else None
    if kind == b"*" and head == b"-1":
        return ServerError("the transaction was given up"), end + 2
    if kind == b"*":
        return _parse_list(data, end + 2, int(head))
    return head, end + 2


def _parse_list(data: bytes, start: int, count: int) -> tuple[Reply, int] | None:
    """So many replies, or the first error among them."""
    replies: list[Any] = []
    end = _parse_more(replies, data, start, count)
    return None if len(replies) < count else (_all_or_error(replies), end)


def _parse_more(replies: list[Any], data: bytes, start: int, count: int) -> int:
    """Add replies from there on until there are so many, or the next is not all there; where that begins."""
    while len(replies) < count:
        if data.startswith(b"+OK\r\n", start):  # most are
            replies.append(b"OK")
            start += 5
            continue
        parsed = _parse(data, start)
        if parsed is None:
            break
        replies.append(parsed[0])
        start = parsed[1]
    return start


def _all_or_error(replies: list[Any]) -> Reply:
    error = next((reply for reply in replies if isinstance(reply, Exception)), None)
    return replies if error is None else error
