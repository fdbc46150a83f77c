"""HTTP at the edge: Uvicorn's protocol with a short way for clicks, and the limits that Uvicorn leaves to others.

A click needs no task, no scope, no coroutine: `ClickProtocol` hands /c/… and /a/… to the redirect as soon as the
headers are in, and writes the answer when the log has the click; so it does with a postback whose report is in the
query. Everything else goes to Starlette as usual. Measured on two cores against the same handler behind ASGI
(docs/decisions/0003-http-server.md): twice the clicks a second.

Limits: 414 for a long URL, 431 for headers, 413 for bodies, 429 for too many requests at once on a connection, and a
sweeper that closes connections which are idle, or slow to send or to read. Answers keep the order of their requests,
refusals too. Called by app.py.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from schemas.logs import logger
from tracker.reader import plain, seen_in
from tracker.refusals import HttpLimits, Refused, last_words, origin_form, status_of, with_clean_head
from tracker.short import ShortRequest

_BATCH_PATHS = (b"/v1/conversions", b"/v1/reversals")
_PIPELINED_MAX = 128
"""Requests that wait on one connection for their turn; beyond it 429. Neither browsers nor proxies send two."""


class _InTurn:
    """A short request that has to wait for an earlier one on its connection, as Uvicorn's protocol calls it then."""

    def __init__(self, connection: Any, request: ShortRequest) -> None:
        self._connection = connection
        self.request = request

    async def run_asgi(self, _app: Any) -> None:
        self._connection.handle_short(self.request)


class ClickProtocol(HttpToolsProtocol):
    """One connection; `click_protocol` gives its class what the worker answers with, and the limits."""

    limits: HttpLimits
    handle: Callable[[ShortRequest], None]
    plain_bytes: int

    _since: float | None = None
    """Loop time at which the request now being received began; None between requests."""
    _idle_since = 0.0
    _chunk_bytes = 0
    _later_bytes = 0
    """What came of this request after the chunk in which it began."""
    _later_bytes_max = 0
    _body_bytes = 0
    _body_bytes_max = 0
    _is_in_head = False
    _awaits_request = True
    peer = ""
    _is_deaf = False
    """What comes now is thrown away: when the answers that are due are given, the connection ends."""
    _has_ended = False
    """The client has said that nothing more will come."""
    _last_words = b""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.peer = self.client[0] if self.client else ""
        self._since = self.loop.time()
        self._later_bytes_max = self.limits.head_bytes

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection for the answers that are due."""
        self._has_ended = True
        self._is_deaf = self._is_deaf or self._is_busy()
        return self._is_busy()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        if self._awaits_request:
            earlier = self.cycle
            is_free = earlier is None or earlier.response_complete
            if is_free and (seen := plain(data, self.plain_bytes)) is not None:
                self._since = None
                self.cycle = request = ShortRequest(self, seen, True)  # type: ignore[assignment]
                self.handle_short(request)
                return
            data = with_clean_head(data)
        self._chunk_bytes = len(data)
        self._later_bytes += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            self._refuse(status_of(error))
            return
        # The parser keeps a header until it is whole; whole ones are counted in on_headers_complete.
        if self._later_bytes > self._later_bytes_max and self._since is not None:
            self._refuse(431 if self._is_in_head else 413)

    def _feed(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                self.parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as upgrade:
                # To h2c or a websocket: there is neither, the request is answered as it stands.
                rest = rest[upgrade.args[0] :]

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._awaits_request = False
        self._is_in_head = True
        self._later_bytes = 0
        self._later_bytes_max = self.limits.head_bytes
        self._body_bytes = 0
        if self._since is None:
            self._since = self.loop.time()

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > self.limits.url_bytes:
            raise Refused(414)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))  # called ten times a click: nothing else here

    def on_headers_complete(self) -> None:
        headers = self.headers
        # Headers that came in one small chunk need not be added up.
        may_be_large = self._later_bytes > 0 or self._chunk_bytes > self.limits.header_bytes
        if len(headers) > self.limits.header_count or (
            may_be_large and sum(len(name) + len(value) for name, value in headers) > self.limits.header_bytes
        ):
            raise Refused(431)
        if len(self.pipeline) >= _PIPELINED_MAX:
            raise Refused(429)
        if self.url[:1] != b"/":
            self.url = origin_form(self.url)
        is_batch = self.url.partition(b"?")[0] in _BATCH_PATHS
        self._body_bytes_max = self.limits.batch_body_bytes if is_batch else self.limits.body_bytes
        self._later_bytes_max = self.limits.head_bytes + 2 * self._body_bytes_max  # chunked bodies have overhead
        if self.url.startswith((b"/c/", b"/a/", b"/v/")) or (
            self.url.startswith(b"/postback?") and self.parser.get_method() == b"GET"
        ):
            self._begin_short()
        else:
            self._begin_asgi(headers)
        self._is_in_head = False

    def _begin_asgi(self, headers: list[tuple[bytes, bytes]]) -> None:
        if any(name == b"content-length" and int(value) > self._body_bytes_max for name, value in headers):
            raise Refused(413)
        url = self.url
        super().on_message_begin()
        self.url = url
        self.expect_100_continue = any(n == b"expect" and v.lower() == b"100-continue" for n, v in headers)
        self.headers.extend(headers)
        super().on_headers_complete()
        self.headers = []  # trailers of a chunked body shall not be taken for headers

    def _begin_short(self) -> None:
        keep_alive = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
        seen = seen_in(self.parser.get_method(), self.url, self.headers)
        earlier, request = self.cycle, ShortRequest(self, seen, keep_alive)
        self.cycle = request  # type: ignore[assignment]
        if earlier is None or earlier.response_complete:
            self.handle_short(request)
        else:  # pipelined: wait for its turn
            self.flow.pause_reading()
            self.pipeline.appendleft((_InTurn(self, request), self.app))  # type: ignore[arg-type]

    def handle_short(self, request: ShortRequest) -> None:
        try:
            self.handle(request)
        except Exception as error:
            logger().error("click failed", exc_info=error)
            if not request.response_complete:
                request.keep_alive = False
                request.respond(b"HTTP/1.1 500 Internal Server Error\r\ncache-control: no-store\r\n", b"")

    def answered(self) -> None:
        """Called when an answer has been written by the short way: the next request may come."""
        if self.pipeline or self._is_deaf:
            self.on_response_complete()
        else:
            self._idle_since = self.loop.time()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > self._body_bytes_max:
            raise Refused(413)
        if not isinstance(self.cycle, ShortRequest):
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._since = None
        self._awaits_request = True
        if not isinstance(self.cycle, ShortRequest):
            super().on_message_complete()

    def on_response_complete(self) -> None:
        self._idle_since = self.loop.time()
        if self._is_deaf and not self.pipeline:
            self._hang_up()
        else:
            super().on_response_complete()

    def sweep(self, now: float) -> None:
        """Close the connection if its client takes too long; called every second."""
        busy = self._is_busy()
        if self._since is not None:
            is_in_body = busy and not self._is_in_head
            slow = now - self._since > (self.limits.body_seconds if is_in_body else self.limits.header_seconds)
        elif busy:
            slow = self.flow.write_paused and now - self._idle_since > self.limits.body_seconds
        else:
            slow = now - self._idle_since > self.limits.keep_alive_seconds
        if slow and self.transport is not None:
            self.transport.abort()

    def _is_busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, status: int) -> None:
        """Say what is wrong with the present request when its turn comes, then hang up: what follows it on the
        connection cannot be understood."""
        self._is_deaf = True
        own = None if self._is_in_head else self.cycle  # there is one already if only the body is at fault
        if own is not None and (own.response_complete or isinstance(own, ShortRequest)):
            own.keep_alive = False
            if own.response_complete:
                self.transport.close()
            return
        is_waiting = own is not None and bool(self.pipeline) and self.pipeline[0][0] is own
        if is_waiting:
            self.pipeline.popleft()
        elif own is not None:
            own.disconnected = True  # so that nothing of its answer is sent
            own.message_event.set()
        self._last_words = last_words(status, self.url)
        if not is_waiting and (own is not None or not self._is_busy()):
            self._hang_up()

    def _hang_up(self) -> None:
        """Closed at once, with data of its unread, the connection would be reset before its client reads the
        answer: he gets until the sweeper comes."""
        if self.transport.is_closing():
            return
        self.transport.write(self._last_words)
        if self._has_ended:
            self.transport.close()
            return
        self.flow.resume_reading()
        self.transport.write_eof()
        self._since = self.loop.time()


def click_protocol(handle: Callable[[ShortRequest], None], limits: HttpLimits) -> type[ClickProtocol]:
    """The protocol class for one worker; `handle` answers what goes the short way."""
    members = {"handle": staticmethod(handle), "limits": limits, "plain_bytes": limits.plain_bytes}
    return type("WorkersClickProtocol", (ClickProtocol,), members)


async def sweep(connections: Callable[[], set[Any]]) -> None:
    """For ever, each second: let every connection look at its clock."""
    while True:
        await asyncio.sleep(1)
        now = asyncio.get_running_loop().time()
        for protocol in list(connections()):
            protocol.sweep(now)
