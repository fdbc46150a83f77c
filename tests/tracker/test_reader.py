"""The short way into a click's request: it sees what the parser sees, and leaves the parser what it must not take."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.connection import Transport, connections
from tracker import server
from tracker.reader import Seen, plain
from tracker.short import ShortRequest

BROWSER = b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
PLAIN = (
    b"GET /c/boots?sub1=x HTTP/1.1\r\nHost: track.example\r\nUser-Agent: %b\r\nAccept: */*\r\n"
    b"Referer: https://blog.example/\r\nCookie: a=b; lc=Chxun7RZMjU\r\nX-Forwarded-For: 203.0.113.7, 10.0.0.1\r\n"
    b"Connection: keep-alive\r\nSec-GPC: 1\r\n\r\n"
) % BROWSER


def seen_by_the_parser(data: bytes) -> list[tuple[Seen, bool]]:
    """What the redirect is handed when the short way is closed, and whether the connection may stay."""
    handed: list[tuple[Seen, bool]] = []

    def handle(request: ShortRequest) -> None:
        handed.append((request.seen, request.keep_alive))
        request.respond(b"HTTP/1.1 302 Found\r\n", b"")

    async def receive() -> None:
        protocol = connections(handle)()
        protocol.connection_made(Transport())  # type: ignore[arg-type]
        protocol.data_received(data)

    before, server.plain = server.plain, lambda *_: None
    try:
        asyncio.run(receive())
    finally:
        server.plain = before
    return handed


def test_a_browsers_request_is_plain_and_says_what_the_parser_says() -> None:
    seen = plain(PLAIN)
    assert seen is not None
    assert (seen.method, seen.target, seen.referrer) == (b"GET", b"/c/boots?sub1=x", b"https://blog.example/")
    assert (seen.cookie, seen.forwarded_for) == (b"a=b; lc=Chxun7RZMjU", b"203.0.113.7, 10.0.0.1")
    assert BROWSER in seen.reader.agent and seen.reader.wants_no_cookie and not seen.reader.is_local
    assert seen_by_the_parser(PLAIN) == [(seen, True)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"GET", b"HEAD"),
        (b"GET", b"POST"),
        (b"GET /c", b" GET /c"),
        (b"/c/", b"/pixel.gif"),
        (b"HTTP/1.1", b"HTTP/1.0"),
        (b"HTTP/1.1", b"HTTP/2.0"),
        (b"boots", b"bo ots"),
        (b"boots", b"b\xc3\xb6ots"),
        (b"boots", b"boots\x00"),
        (b"Accept: */*", b"Content-Length: 5"),
        (b"Accept: */*", b"Content-Length: 0"),
        (b"Accept: */*", b"content-length: 5"),
        (b"Accept: */*", b"Transfer-Encoding: chunked"),
        (b"Accept: */*", b"Upgrade: h2c"),
        (b"Accept: */*", b"Expect: 100-continue"),
        (b"Accept: */*", b"Trailer: x"),
        (b"Accept: */*", b"Connection: close"),
        (b"Connection: keep-alive", b"Connection: close"),
        (b"Connection: keep-alive", b"Connection: keep-alive, upgrade"),
        (b"Accept: */*", b"Accept : */*"),
        (b"Accept: */*", b"Accept"),
        (b"Accept: */*", b": x"),
        (b"Accept: */*", b" folded: x"),
        (b"Accept: */*", b"Accept:\t*/*"),
        (b"Accept: */*", b"Accept: */* "),
        (b"Accept: */*", b"Accept: */*\x01"),
        (b"Accept: */*", b"Accept: \xff"),
        (b"Accept: */*", b"User-Agent: twice"),
        (b"Accept: */*", b"Cookie: lc=other"),
        (b"Accept: */*", b"cookie: lc=other"),
        (b"Accept: */*", b"x-forwarded-for: 192.0.2.1"),
        (b"Accept: */*", b"Bad{name: x"),
        (b"Accept: */*", b"A: b\nContent-Length: 5"),
        (b"Accept: */*", b"A: b\rContent-Length: 5"),
        (b"a=b", b"a=\x00b"),
        (b"a=b", b"a=b\nContent-Length: 5\n"),
        (b"https://blog.example/", b"https://blog.example/\xff"),
        (b"https://blog.example/", b" https://blog.example/"),
        (b"https://blog.example/", b"https://blog.example/ "),
        (b"\r\n\r\n", b"\r\n"),
        (b"\r\n\r\n", b"\r\n\r\nX"),
        (b"\r\n\r\n", b"\r\n\r\nGET /c/boots HTTP/1.1\r\n\r\n"),
        (b"\r\n\r\n", b"\n\n"),
        (b"GET", b"\r\nGET"),
        (b"boots", b"b" * 5000),
        (b"Accept: */*", b"\r\n".join(b"X-%d: y" % n for n in range(41))),
    ],
)
def test_what_is_not_plain_is_left_to_the_parser(old: bytes, new: bytes) -> None:
    assert old in PLAIN
    assert plain(PLAIN.replace(old, new, 1)) is None


POSTBACK = PLAIN.replace(b"/c/boots?sub1=x", b"/postback?program=shoes&order_id=1")


def test_a_postback_is_plain_if_everything_is_in_its_query() -> None:
    assert plain(POSTBACK) is not None
    assert seen_by_the_parser(POSTBACK) == [(plain(POSTBACK), True)]
    closing = POSTBACK.replace(b"keep-alive", b"close")
    assert plain(closing) is None
    assert [(seen.target, stays) for seen, stays in seen_by_the_parser(closing)] == [(plain(POSTBACK).target, False)]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"/postback?", b"/postback"),
        (b"/postback?", b"/postback/?"),
        (b"/postback?", b"/postbacks?"),
        (b"/postback?", b"/postback%3f"),
        (b"GET", b"POST"),
        (b"GET", b"HEAD"),
    ],
)
def test_another_way_to_report_is_for_starlette(old: bytes, new: bytes) -> None:
    """It never comes to the handler of the short way."""
    assert plain(POSTBACK.replace(old, new, 1)) is None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server.HttpToolsProtocol, "on_headers_complete", lambda self: None)
        patch.setattr(server.HttpToolsProtocol, "on_message_complete", lambda self: None)
        assert seen_by_the_parser(POSTBACK.replace(old, new, 1)) == []


names = st.sampled_from(
    "Host User-Agent Accept Referer Cookie X-Forwarded-For X-Forwarded-Proto Connection Sec-GPC Sec-Fetch-Mode"
    " Sec-Fetch-Dest Sec-Purpose Purpose X-Moz Content-Length Transfer-Encoding Upgrade Expect cookie referer host"
    " user-agent x-other".split()
)
values = st.one_of(
    st.sampled_from(
        [
            "",
            "keep-alive",
            "close",
            "navigate",
            "document",
            "image",
            "prefetch",
            "1",
            "localhost:8080",
            "https",
            "chunked",
        ]
    ),
    st.text(st.characters(min_codepoint=9, max_codepoint=0x17F), max_size=20),
)
headers = st.lists(st.tuples(names, st.sampled_from([": ", ":", ":  ", " : "]), values), max_size=12)


@settings(max_examples=400, deadline=None)
@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12), headers)
def test_whatever_is_taken_says_what_the_parser_says(path: str, headers: list[tuple[str, str, str]]) -> None:
    lines = [f"GET /c/{path} HTTP/1.1", *(f"{name}{colon}{value}" for name, colon, value in headers)]
    data = "\r\n".join(lines).encode() + b"\r\n\r\n"
    seen = plain(data)
    if seen is not None:
        assert seen_by_the_parser(data) == [(seen, True)]
