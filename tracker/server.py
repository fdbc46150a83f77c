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


class ClickRequest:
    """One request for a link; to Uvicorn's protocol it is the request under way on its connection."""

    __slots__ = (
        "_protocol",
        "disconnected",
        "headers",
        "keep_alive",
        "method",
        "peer",
        "response_complete",
        "scheme",
        "target",
    )
    message_event = _Nothing

    def __init__(self, protocol: Any, keep_alive: bool) -> None:
        self._protocol = protocol
        self.keep_alive = keep_alive
        self.response_complete = False
        self.disconnected = False
        self.method: bytes = protocol.parser.get_method()
        self.target: bytes = protocol.url
        self.headers = _as_dict(protocol.headers)
        self.peer: str = protocol.client[0] if protocol.client else ""
        self.scheme: str = protocol.scheme

    def respond(self, head: bytes, body: bytes) -> None:
        """Answer: `head` is status line and headers, each line ended."""
        self._protocol.respond(self, head, body)

    async def run_asgi(self, _app: Any) -> None:
        """Called for a click that had to wait for an earlier request on its connection."""
        self._protocol.handle_click(self)


class _TooLarge(Exception):
    def __init__(self, status: int) -> None:
        self.status = status


def click_protocol(handle_click: Callable[[ClickRequest], None], limits: HttpLimits) -> type[HttpToolsProtocol]:
    """The protocol class for one worker."""
    head_bytes_max = limits.url_bytes + limits.header_bytes

    class ClickProtocol(HttpToolsProtocol):
        _since: float | None = None
        """Loop time at which the request now being received began; None between requests."""
        _idle_since = 0.0
        _head_bytes = 0
        _body_bytes = 0
        _status = 400
        _is_in_head = True

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._since = self.loop.time()

        def data_received(self, data: bytes) -> None:
            if self.timeout_keep_alive_task is not None:
                self._unset_keepalive_if_required()
            if self._is_in_head:
                self._head_bytes += len(data)
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade:
                return  # to h2c or a websocket: there is neither, the request is answered as it stands
            except httptools.HttpParserError:
                self._refuse(self._status)
                return
            # Headers that are still not all there; whole ones are counted when they are (on_headers_complete).
            if self._is_in_head and self._head_bytes > head_bytes_max:
                self._refuse(431)

        def on_message_begin(self) -> None:
            self.url = b""
            self.headers = []
            self.expect_100_continue = False
            self._is_in_head = True
            self._body_bytes = 0
            if self._since is None:
                self._since = self.loop.time()

        def on_url(self, url: bytes) -> None:
            self.url += url
            if len(self.url) > limits.url_bytes:
                self._too_large(414)

        def on_header(self, name: bytes, value: bytes) -> None:
            self.headers.append((name.lower(), value))  # called ten times a click: nothing else here

        def on_headers_complete(self) -> None:
            self._is_in_head = False
            headers = self.headers
            # All that came since the last request's headers bounds these headers' size: add them up only then.
            if len(headers) > limits.header_count or (
                self._head_bytes > limits.header_bytes
                and sum(len(name) + len(value) for name, value in headers) > limits.header_bytes
            ):
                self._too_large(431)
            self._head_bytes = 0
            if self.url.startswith((b"/c/", b"/a/")):
                self._begin_click()
                return
            url = self.url
            most = limits.batch_body_bytes if url.startswith(b"/v1/") else limits.body_bytes
            if any(name == b"content-length" and int(value) > most for name, value in headers):
                self._too_large(413)
            super().on_message_begin()
            self.url = url
            self.expect_100_continue = (b"expect", b"100-continue") in headers
            self.headers.extend(headers)
            super().on_headers_complete()

        def _begin_click(self) -> None:
            keep_alive = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
            earlier, request = self.cycle, ClickRequest(self, keep_alive)
            self.cycle = request  # type: ignore[assignment]
            if earlier is None or earlier.response_complete:
                handle_click(request)
            else:  # pipelined: wait for its turn
                self.flow.pause_reading()
                self.pipeline.appendleft((request, self.app))  # type: ignore[arg-type]

        @staticmethod
        def handle_click(request: ClickRequest) -> None:
            handle_click(request)

        def respond(self, request: ClickRequest, head: bytes, body: bytes) -> None:
            """Write the answer to a click, and let the next request on the connection come."""
            request.response_complete = True
            if self.transport.is_closing():
                return
            date = self.server_state.default_headers[0][1] if self.server_state.default_headers else b""
            connection = b"" if request.keep_alive else b"connection: close\r\n"
            shown = b"" if request.method == b"HEAD" else body
            self.transport.write(
                b"%bdate: %b\r\ncontent-length: %d\r\n%b\r\n%b" % (head, date, len(body), connection, shown)
            )
            self.server_state.total_requests += 1
            if not request.keep_alive:
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
            if not isinstance(self.cycle, ClickRequest):
                super().on_body(body)

        def on_message_complete(self) -> None:
            self._since = None
            if not isinstance(self.cycle, ClickRequest):
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
