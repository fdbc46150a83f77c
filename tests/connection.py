"""Connections to the edge as a tracker's server makes them, by themselves: bytes in, and what becomes of them."""

import asyncio
from collections.abc import Callable
from typing import Any

import uvicorn

from schemas.settings import Settings
from tracker.refusals import HttpLimits
from tracker.server import ClickProtocol, click_protocol
from tracker.short import ShortRequest

LIMITS = HttpLimits.of(Settings())


async def _nothing_here(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


def connections(handle: Callable[[ShortRequest], None]) -> Callable[[], ClickProtocol]:
    """Makes a connection at each call, in the running loop. `handle` answers what goes the short way, 404 the rest."""
    config = uvicorn.Config(_nothing_here, log_config=None, lifespan="off", ws="none")
    config.load()
    state, protocol = uvicorn.server.ServerState(), click_protocol(handle, LIMITS)
    return lambda: protocol(config, state, {}, asyncio.get_running_loop())


class Transport:
    """A connection's other end: what is written to it, and whether it has ended."""

    def __init__(self) -> None:
        self.written = b""
        self.has_ended = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("203.0.113.7", 4711) if name == "peername" else default

    def is_closing(self) -> bool:
        return self.has_ended

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.has_ended = True

    write_eof = abort = close
    pause_reading = resume_reading = lambda self: None
