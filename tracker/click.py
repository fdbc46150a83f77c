"""A click, and what the redirect needs of the request and of the log. Part of the click path."""

from typing import Protocol

from tracker.links import Route
from tracker.reader import Seen
from tracker.shard import Event


class Request(Protocol):
    """What the redirect needs of a request."""

    seen: Seen
    peer: str
    scheme: str

    def respond(self, head: bytes, body: bytes) -> None:
        """Takes status line and headers, each line ended, and the body."""


class Appender(Protocol):
    """What the redirect needs of the log."""

    def shard_of(self, visitor: bytes) -> int:
        """The shard that keeps a visitor."""

    def append(self, shard: int, event: Event) -> None:
        """Records an event, and calls its `done`."""


class Click:
    """One click, or view, as it is worked out step by step."""

    __slots__ = (
        "at",
        "consents",
        "duplicate_key",
        "flags",
        "has_come_before",
        "id",
        "ip",
        "parameters",
        "query",
        "request",
        "route",
        "sets_cookie",
        "url",
        "visitor",
    )
    id: bytes
    visitor: bytes
    has_come_before: bool
    flags: list[str]
    sets_cookie: bool
    url: str
    duplicate_key: bytes

    def __init__(
        self, request: Request, route: Route, at: int, ip: str, query: bytes, parameters: dict[str, str]
    ) -> None:
        self.request = request
        self.route = route
        self.at = at
        self.ip = ip
        self.query = query
        self.parameters = parameters
        self.consents = not query or parameters.get("consent") != "0"
