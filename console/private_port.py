"""The private port is not for the web: a page that a browser shows cannot read it.

Questions want a token, which no page has. Health and metrics want none, and so a page could read them if the name of
its site led to this machine all of a sudden (DNS rebinding): its browser would take the answer for the site's own. Such
a request names the site as its host. Here a host is an address, localhost or a name without a dot; others need the
token.

Called by the engine, round the endpoints of admin.py.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from hmac import compare_digest
from ipaddress import ip_address
from typing import Any

import orjson

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

_REFUSAL = orjson.dumps(
    {
        "error": {
            "code": "host_not_ours",
            "message": "ask by an address, by localhost or by a name without a dot, or bring the token of admin.token",
            "param": "Host",
        }
    }
)


def is_ours(host: str) -> bool:
    """Whether a Host header can be meant for a private port; without one it is no browser's."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    name = name.lower().rstrip(".")
    if "." not in name and ":" not in name:
        return True
    try:
        ip_address(name)
    except ValueError:
        return name.endswith(".localhost")
    return True


def guarded(app: App, token: str) -> App:
    """The application, for requests that are not a page's."""

    async def answer(scope: Message, receive: Any, send: Any) -> None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        scheme, _, given = headers.get(b"authorization", "").partition(" ")
        has_token = scheme.lower() == "bearer" and compare_digest(given.encode(), token.encode())
        if has_token or is_ours(headers.get(b"host", "")):
            await app(scope, receive, send)
            return
        head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_REFUSAL))]
        await send({"type": "http.response.start", "status": 421, "headers": [*head, (b"cache-control", b"no-store")]})
        await send({"type": "http.response.body", "body": _REFUSAL})

    return answer
