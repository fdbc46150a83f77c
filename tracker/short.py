"""One request that goes the short way: read in one piece, answered by one write, without Starlette, task or scope.

server.py hands it to the redirect, or to the taker of postbacks, and these answer it when the log has it. To Uvicorn's
protocol it is the request under way on its connection. Part of the click path.
"""

from typing import Any

from tracker.reader import Seen


class _Nothing:
    """Stands for the event that Uvicorn's cycle waits on; a click waits for nothing of the connection's."""

    @staticmethod
    def set() -> None:
        return None


class ShortRequest:
    """A request, and the connection (server.py) that it came by."""

    __slots__ = (
        "_connection",
        "disconnected",
        "keep_alive",
        "message_event",
        "peer",
        "response_complete",
        "scheme",
        "seen",
    )

    def __init__(self, connection: Any, seen: Seen, keep_alive: bool) -> None:
        self._connection = connection
        self.peer: str = connection.peer
        self.scheme: str = connection.scheme
        self.seen = seen
        self.keep_alive = keep_alive
        self.response_complete = False
        self.disconnected = False
        self.message_event = _Nothing

    def respond(self, head: bytes, body: bytes) -> None:
        """Write the answer, and let the next request on the connection come. `head` is status line and headers, each
        line ended."""
        self.response_complete = True
        connection = self._connection
        transport = connection.transport
        if transport.is_closing():
            return
        if connection.flow.write_paused:  # a client that asks on and on without reading
            transport.abort()
            return
        state = connection.server_state
        dates = state.default_headers
        date: bytes = dates[0][1] if dates else b""
        if self.keep_alive and not body:
            transport.write(b"%bdate: %b\r\ncontent-length: 0\r\n\r\n" % (head, date))
        else:
            hang_up = b"" if self.keep_alive else b"connection: close\r\n"
            shown = b"" if self.seen.method == b"HEAD" else body
            transport.write(b"%bdate: %b\r\ncontent-length: %d\r\n%b\r\n%b" % (head, date, len(body), hang_up, shown))
        state.total_requests += 1
        if self.keep_alive:
            connection.answered()
        else:
            transport.close()
