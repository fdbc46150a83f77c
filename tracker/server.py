"""HTTP at the edge: Uvicorn's protocol with a short way for clicks, and the limits that Uvicorn leaves to others.

A click needs no task, no scope, no coroutine: `ClickProtocol` hands /c/… and /a/… to the redirect as soon as the
headers are in, and writes the answer when the log has the click. Everything else goes to Starlette as usual. Measured
on two cores against the same handler behind ASGI (docs/decisions/0003-http-server.md): twice the clicks a second.

Limits: 414 for a long URL, 431 for headers, 413 for bodies, and a sweeper that closes connections which are idle or
slow to send. Called by app.py.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_REASONS = {
    400: b"Bad Request",
    413: b"Content Too Large",
    414: b"URI Too Long",
    431: b"Request Header Fields Too Large",
}
_CODES = {400: "request_malformed", 413: "body_too_large", 414: "url_too_long", 431: "headers_too_large"}

HandleClick = Callable[..., None]


@dataclass(frozen=True)
class HttpLimits:
    """Sizes in bytes, times in seconds."""

    url_bytes: int
    header_bytes: int
    header_count: int
    body_bytes: int
    batch_body_bytes: int
    keep_alive_seconds: float
    header_seconds: float
    body_seconds: float


class _Nothing:
    """Stands for the event that Uvicorn's cycle waits on; a click waits for nothing of the connection's."""

    @staticmethod
    def set() -> None:
        return None


class _ClickCycle:
    """One click under way, as far as Uvicorn's protocol asks a request about itself."""

    __slots__ = ("_handle", "disconnected", "keep_alive", "response_complete")
    message_event = _Nothing

    def __init__(self, keep_alive: bool, handle: Callable[["_ClickCycle"], None]) -> None:
        self.response_complete = False
        self.disconnected = False
        self.keep_alive = keep_alive
        self._handle = handle

    async def run_asgi(self, _app: Any) -> None:
        """Called for a click that had to wait for an earlier request on its connection."""
        self._handle(self)


class _TooLarge(Exception):
    def __init__(self, status: int) -> None:
        self.status = status


def click_protocol(handle_click: HandleClick, limits: HttpLimits) -> type[HttpToolsProtocol]:
    """The protocol class for one worker: `handle_click(method, target, headers, peer, scheme, respond)`."""

    class ClickProtocol(HttpToolsProtocol):
        _since: float | None = None
        """Loop time at which the request now being received began; None between requests."""
        _idle_since = 0.0
        _header_bytes = 0
        _body_bytes = 0
        _status = 400

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._since = self.loop.time()

        def data_received(self, data: bytes) -> None:
            if self.timeout_keep_alive_task is not None:
                self._unset_keepalive_if_required()
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade:
                return  # to h2c or a websocket: there is neither, the request is answered as it stands
            except httptools.HttpParserError:
                self._refuse(self._status)

        def on_message_begin(self) -> None:
            self.url = b""
            self.headers = []
            self.expect_100_continue = False
            self._header_bytes = 0
            self._body_bytes = 0
            if self._since is None:
                self._since = self.loop.time()

        def on_url(self, url: bytes) -> None:
            self.url += url
            if len(self.url) > limits.url_bytes:
                self._too_large(414)

        def on_header(self, name: bytes, value: bytes) -> None:
            self._header_bytes += len(name) + len(value)
            if self._header_bytes > limits.header_bytes or len(self.headers) >= limits.header_count:
                self._too_large(431)
            name = name.lower()
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))

        def on_headers_complete(self) -> None:
            if self.url.startswith((b"/c/", b"/a/")):
                self._begin_click()
                return
            url, headers, expects = self.url, self.headers, self.expect_100_continue
            most = limits.batch_body_bytes if url.startswith(b"/v1/") else limits.body_bytes
            for name, value in headers:
                if name == b"content-length" and int(value) > most:
                    self._too_large(413)
            super().on_message_begin()
            self.url, self.expect_100_continue = url, expects
            self.headers.extend(headers)
            super().on_headers_complete()

        def _begin_click(self) -> None:
            method, target = self.parser.get_method(), self.url
            headers = _as_dict(self.headers)
            keep_alive = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
            peer = self.client[0] if self.client else ""
            has_body = method == b"HEAD"

            def handle(cycle: _ClickCycle) -> None:
                def respond(head: bytes, body: bytes) -> None:
                    self._respond(cycle, head, body, not has_body)

                handle_click(method, target, headers, peer, self.scheme, respond)

            earlier = self.cycle
            cycle = _ClickCycle(keep_alive, handle)
            self.cycle = cycle  # type: ignore[assignment]
            if earlier is None or earlier.response_complete:
                handle(cycle)
            else:  # pipelined: wait for its turn
                self.flow.pause_reading()
                self.pipeline.appendleft((cycle, self.app))  # type: ignore[arg-type]

        def _respond(self, cycle: _ClickCycle, head: bytes, body: bytes, with_body: bool) -> None:
            cycle.response_complete = True
            if self.transport.is_closing():
                return
            date = self.server_state.default_headers[0][1] if self.server_state.default_headers else b""
            self.transport.write(
                b"%bdate: %b\r\ncontent-length: %d\r\n%b\r\n%b"
                % (
                    head,
                    date,
                    len(body),
                    b"" if cycle.keep_alive else b"connection: close\r\n",
                    body if with_body else b"",
                )
            )
            self.server_state.total_requests += 1
            if not cycle.keep_alive:
                self.transport.close()
            elif self.pipeline:
                self.on_response_complete()
            else:
                self._idle_since = self.loop.time()

        def on_body(self, body: bytes) -> None:
            self._body_bytes += len(body)
            most = limits.batch_body_bytes if self.url.startswith(b"/v1/") else limits.body_bytes
            if self._body_bytes > most:
                self._too_large(413)
            if not isinstance(self.cycle, _ClickCycle):
                super().on_body(body)

        def on_message_complete(self) -> None:
            self._since = None
            if not isinstance(self.cycle, _ClickCycle):
                super().on_message_complete()

        def on_response_complete(self) -> None:
            self._idle_since = self.loop.time()
            super().on_response_complete()

        def sweep(self, now: float) -> None:
            """Close the connection if its client takes too long; called every second."""
            busy = self.cycle is not None and not self.cycle.response_complete
            if self._since is not None:
                is_in_body = self.scope is not None and busy
                slow = now - self._since > (limits.body_seconds if is_in_body else limits.header_seconds)
            else:
                slow = not busy and now - self._idle_since > limits.keep_alive_seconds
            if slow and self.transport is not None:
                self.transport.abort()

        def _too_large(self, status: int) -> None:
            self._status = status
            raise _TooLarge(status)  # the parser wraps it; data_received answers

        def _refuse(self, status: int) -> None:
            body = b'{"error":{"code":"%b","message":"%b","param":null}}' % (
                _CODES[status].encode(),
                _REASONS[status],
            )
            self.transport.write(
                b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
                b"cache-control: no-store\r\nconnection: close\r\n\r\n%b" % (status, _REASONS[status], len(body), body)
            )
            self.transport.close()

    return ClickProtocol


async def sweep(connections: Callable[[], set[Any]]) -> None:
    """For ever, each second: let every connection look at its clock."""
    while True:
        await asyncio.sleep(1)
        now = asyncio.get_running_loop().time()
        for protocol in list(connections()):
            protocol.sweep(now)


def _as_dict(headers: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Headers by lower-case name; those given several times joined, as HTTP allows."""
    by_name = dict(headers)
    if len(by_name) < len(headers):
        for name in by_name:
            values = [value for key, value in headers if key == name]
            by_name[name] = (b"; " if name == b"cookie" else b", ").join(values)
    return by_name
