"""What a browser would never send: raw bytes to the edge. A strange click is redirected all the same, nothing strange
comes back, and what is no request is refused in its turn.
"""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from tests.system import PERSON, System

_marks = count()


def mark() -> str:
    return f"hostile-{next(_marks)}"


class Reply(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def get(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["error"]["code"])


@contextmanager
def connect(system: System, seconds: float = 10) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", system.edge_port), timeout=seconds) as connection:
        yield connection


def ask(system: System, data: bytes, seconds: float = 10) -> list[Reply]:
    """Send bytes and half-close; every reply until the server closes."""
    with connect(system, seconds) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return replies_in(read_all(connection))


def ask_once(system: System, data: bytes) -> Reply:
    """Send bytes, keep the connection open, and read one reply."""
    with connect(system) as connection:
        connection.sendall(data)
        return read_one(connection)


def read_all(connection: socket.socket) -> bytes:
    received = b""
    while piece := connection.recv(65536):
        received += piece
    return received


def read_one(connection: socket.socket) -> Reply:
    received = b""
    while not (found := replies_in(received)):
        piece = connection.recv(65536)
        assert piece, received
        received += piece
    assert len(found) == 1
    return found[0]


def replies_in(data: bytes) -> list[Reply]:
    """Whole replies; strict about what a header may be."""
    found = []
    while b"\r\n\r\n" in data:
        head, _, rest = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("ascii").split("\r\n")
        assert first.startswith("HTTP/1.1 ") and all(line.isprintable() for line in lines), head
        headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
        status = int(first.split(" ")[1])
        length = int(dict(headers).get("content-length", "0"))
        if status != 100 and len(rest) < length:
            break
        found.append(Reply(status, headers, rest[:length]))
        data = rest[length:]
    return found


def request(target: bytes | str, *lines: bytes, method: bytes = b"GET", body: bytes = b"") -> bytes:
    target = target.encode() if isinstance(target, str) else target
    agent = b"User-Agent: " + PERSON.encode()
    return b"\r\n".join([method + b" " + target + b" HTTP/1.1", b"Host: localhost", agent, *lines, b"", body])


def is_fine(reply: Reply) -> bool:
    """A redirect to the shop with the headers that every redirect has, each once."""
    names = [name for name, _ in reply.headers]
    known = {"location", "set-cookie", "cache-control", "date", "content-length", "connection"}
    place = reply.get("location") or ""
    return (
        reply.status == 302
        and place.startswith("https://shop.test/")
        and len(set(names)) == len(names)
        and known >= set(names)
    )


def row(system: System, sub1: str) -> dict[str, Any]:
    system.wait_for_rows(f"SELECT count() FROM clicks WHERE sub1 = '{sub1}'", 1)
    return system.sql(f"SELECT * FROM clicks WHERE sub1 = '{sub1}'")[0]


# Strange clicks

STRANGE: dict[str, tuple[bytes, tuple[bytes, ...]]] = {
    "no utf-8 in the query": (b"sub2=%FF%FE&%FF=%C3&sub3=%80", ()),
    "raw utf-8 in the query": ("sub2=ü&sub3=日本".encode(), ()),
    "raw bytes in the query": (b"sub2=\xff\xfe&\x80=1", ()),
    "controls in the query": (b"sub2=%00%01%0d%0a%1b%7f%c2%85&sub3=%e2%80%a8", ()),
    "broken escapes": (b"sub2=%&sub3=%z&sub4=%4&%=%", ()),
    "odd separators": (b"&&&=&==&sub2&sub3=a=b=&;?&??", ()),
    "quotes and braces": (b"sub2=\"'<>{}|^`\\&sub3={sub1}{click_id}{{}}", ()),
    "two hundred parameters": (b"&".join(b"p%d=%d" % (n, n) for n in range(199)), ()),
    "a thousand parameters": (b"&".join(b"p=%d" % n for n in range(1000)), ()),
    "eight kilobytes": (b"sub2=" + b"x" * 7900, ()),
    "eight kilobytes of escapes": (b"sub2=" + b"%0a" * 2600, ()),
    "no utf-8 in the cookie": (b"", (b"Cookie: lc=\xff\xfe; \x80=\x81",)),
    "eight kilobytes of cookie": (b"", (b"Cookie: " + b"lc=x;" * 1600,)),
    "many cookie lines": (b"", tuple(b"Cookie: lc=%d" % n for n in range(60))),
    "no utf-8 in the referer": (b"", (b"Referer: https://blog.test/\xff\xfe\xe2\x28",)),
    "a referer that is no url": (b"", (b'Referer: "};alert(1)//\t',)),
    "eight kilobytes of referer": (b"", (b"Referer: " + b"\xc3\xbc" * 4000,)),
    "no utf-8 in the agent": (b"", (b"User-Agent: \xff\xfe Chrome/156",)),
    "a line of the table in the agent": (b"", (b'User-Agent: x","click_id":"forged","flags":[]}',)),
    "eight kilobytes of agent": (b"", (b"User-Agent: " + b'Mozilla/5.0 (\\"' * 600,)),
    "an empty agent": (b"", (b"User-Agent:",)),
    "a hundred headers": (b"", tuple(b"X-%d: y" % n for n in range(98))),
    "forwarded nonsense": (b"", (b"X-Forwarded-For: ,,;\xff, 999.1.1.1, ::g", b"X-Forwarded-Proto: gopher")),
    "a long chain of proxies": (b"", (b"X-Forwarded-For: " + b"10.0.0.1, " * 1000 + b"x",)),
    "fetch headers twice": (b"", (b"Sec-Fetch-Mode: navigate", b"Sec-Fetch-Mode: navigate")),
    "a body on a get": (b"", (b"Content-Length: 5",)),
    "an upgrade": (b"", (b"Connection: Upgrade", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__")),
    "an upgrade to a websocket": (b"", (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: x")),
    "an expectation": (b"", (b"Expect: 100-continue",)),
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_strange_click_is_redirected_and_stored(edge: System, name: str) -> None:
    query, lines = STRANGE[name]
    sub1 = mark()
    body = b"hello" if b"Content-Length: 5" in lines else b""
    data = request(b"/c/macros?sub1=" + sub1.encode() + b"&" + query, *lines, body=body)
    if any(line.startswith(b"User-Agent") for line in lines):
        data = data.replace(b"User-Agent: " + PERSON.encode() + b"\r\n", b"", 1)
    reply = ask_once(edge, data)
    assert is_fine(reply), reply
    stored = row(edge, sub1)
    assert stored["program"] == "macros" and stored["click_id"] in (reply.get("location") or "")


def test_raw_utf_8_is_read_as_a_browser_would_have_sent_it(edge: System) -> None:
    sub1 = mark()
    ask_once(edge, request(f"/c/plain?sub1={sub1}&sub2=grün&sub3=" + quote("grün")))
    assert row(edge, sub1)["sub2"] == row(edge, sub1)["sub3"] == "grün"


INJECTED = "x\r\nSet-Cookie: evil=1\r\n\r\n<script>"


@pytest.mark.parametrize("name", ["sub1", "sub2", "sub3", "sub4", "sub5", "ref", "to", "consent", "click_id"])
@pytest.mark.parametrize(
    "encoded",
    [quote(INJECTED, safe=""), quote(quote(INJECTED, safe=""), safe=""), "x%E5%98%8A%E5%98%8DSet-Cookie:evil=1"],
)
def test_no_parameter_reaches_the_headers_unescaped(edge: System, name: str, encoded: str) -> None:
    """Line ends, line ends encoded twice, and characters that some decoders cut down to line ends."""
    for code in ("macros", "own-url", "param", "query"):
        reply = ask_once(edge, request(f"/c/{code}?{name}={encoded}"))
        assert is_fine(reply) and "evil" not in (reply.get("set-cookie") or ""), reply


def test_no_host_and_no_path_reaches_the_headers(edge: System) -> None:
    for target, host in [
        ("/c/plain", b"evil.test%0d%0aSet-Cookie:a=b"),
        ("/c/plain", b'"><script>'),
        ("/c/x%0d%0aSet-Cookie:%20a=b", b"localhost"),
        ("/a/x%0d%0aa/b%0d%0a", b"localhost"),
    ]:
        reply = ask_once(edge, request(target).replace(b"Host: localhost", b"Host: " + host))
        assert reply.status in (302, 404) and b"Set-Cookie" not in reply.body and b"<script>" not in reply.body
        assert "a=b" not in (reply.get("set-cookie") or "")


def test_a_request_without_a_host_is_redirected(edge: System) -> None:
    """It is no local host: no cookie."""
    reply = ask_once(edge, b"GET /c/plain HTTP/1.1\r\nUser-Agent: x\r\n\r\n")
    assert is_fine(reply) and reply.get("set-cookie") is None


def test_a_target_written_as_for_a_proxy_is_read(edge: System) -> None:
    for target in ("http://track.example/c/plain", "HTTPS://x:1/c/plain?sub2=y", "http://localhost/a/ann/plain"):
        assert is_fine(ask_once(edge, request(target))), target
    assert ask_once(edge, request("http://localhost/tag.js")).status == 200
    assert ask_once(edge, request("http://localhost")).status == 404
    assert ask_once(edge, request("http://localhost?a=/c/plain")).status in (400, 404)


# Limits


def test_a_url_of_8_kib_is_taken_and_of_9_refused(edge: System) -> None:
    assert is_fine(ask_once(edge, request("/c/plain?x=" + "y" * (8704 - 11))))
    for target in ("/c/plain?x=" + "y" * (8704 - 10), "/c/plain?x=" + "y" * 9216, "/tag.js?" + "y" * 9216):
        reply = ask_once(edge, request(target))
        assert (reply.status, reply.code, reply.get("connection")) == (414, "url_too_long", "close")


def test_headers_above_16_kib_or_100_are_refused(edge: System) -> None:
    for lines in [
        (b"X-A: " + b"y" * 20480,),
        tuple(b"X-%d: %b" % (n, b"y" * 400) for n in range(50)),
        tuple(b"X-%d: y" % n for n in range(99)),
        (b"X-" + b"a" * 20480 + b": y",),
    ]:
        for target in ("/c/plain", "/tag.js"):
            reply = ask_once(edge, request(target, *lines))
            assert (reply.status, reply.code) == (431, "headers_too_large")


def test_headers_are_measured_also_behind_another_request_in_one_packet(edge: System) -> None:
    replies = ask(edge, request("/c/plain") + request("/c/plain", b"X-A: " + b"y" * 20480))
    assert [reply.status for reply in replies] == [302, 431]


def test_a_header_that_never_ends_is_not_waited_for(edge: System) -> None:
    """The parser itself would keep all of it."""
    with connect(edge) as connection:
        connection.sendall(b"GET /c/plain HTTP/1.1\r\nX-A: ")
        try:
            for _ in range(400):
                connection.sendall(b"y" * 65536)
        except OSError:
            return  # closed while we were sending
        assert read_one(connection).status == 431


@pytest.mark.parametrize("path", ["/postback", "/v1/events", "/nothing", "/c/plain"])
def test_a_body_above_64_kib_is_refused(edge: System, path: str) -> None:
    reply = ask_once(edge, request(path, b"Content-Length: 66560", method=b"POST", body=b"x" * 66560))
    assert (reply.status, reply.code if path != "/c/plain" else "") in ((413, "body_too_large"), (405, ""))


@pytest.mark.parametrize("path", ["/postback", "/v1/events"])
def test_a_chunked_body_above_64_kib_is_refused(edge: System, path: str) -> None:
    body = b"".join(b"400\r\n" + b"x" * 1024 + b"\r\n" for _ in range(65)) + b"0\r\n\r\n"
    reply = ask_once(edge, request(path, b"Transfer-Encoding: chunked", method=b"POST", body=body))
    assert (reply.status, reply.code) == (413, "body_too_large")


def test_a_batch_may_have_1_mib(edge: System, edge_key: str) -> None:
    auth = b"Authorization: Bearer " + edge_key.encode()
    for size, status in ((1_048_576, 400), (1_048_577, 413)):
        body = b"[" + b" " * (size - 1)
        reply = ask_once(
            edge, request("/v1/conversions", auth, b"Content-Length: %d" % size, method=b"POST", body=body)
        )
        assert reply.status == status


def test_trailers_are_no_headers_and_are_bounded(edge: System, edge_key: str) -> None:
    """Else a key could come behind the body, past a proxy's checks; or trailers for ever."""
    chunks = b"2\r\n[]\r\n0\r\nAuthorization: Bearer " + edge_key.encode() + b"\r\n\r\n"
    assert (
        ask_once(edge, request("/v1/conversions", b"Transfer-Encoding: chunked", method=b"POST", body=chunks)).status
        == 401
    )
    with connect(edge) as connection:
        connection.sendall(request("/postback", b"Transfer-Encoding: chunked", method=b"POST", body=b"0\r\nX: "))
        try:
            for _ in range(100):
                connection.sendall(b"y" * 65536)
        except OSError:
            return
        assert read_one(connection).status == 413


# What is no request


@pytest.mark.parametrize(
    "data",
    [
        request("/c/plain", b"X: a\x00b"),
        request("/c/plain", b"Referer: a\x01b", b"Cookie: lc=\x7f"),
        request("/c/plain?\x01"),
        request("/c/plain?sub1=" + "y" * 8192),
    ],
)
def test_control_characters_and_long_values_make_no_click_fail(edge: System, data: bytes) -> None:
    assert is_fine(ask_once(edge, data))


@pytest.mark.parametrize(
    "head",
    [
        request("/pixel.gif?program=plain&order_id=" + "x" * 9000),
        request("/pixel.gif?program=plain", b"X-A: " + b"y" * 20_000),
        request("/pixel.gif?program=plain&order_id=\x01"),
        request("/pixel.gif", b"X: a\r\n folded"),
    ],
)
def test_the_pixel_shows_its_image_whatever_comes(edge: System, head: bytes) -> None:
    reply = ask_once(edge, head)
    assert (reply.status, reply.get("content-type"), len(reply.body)) == (200, "image/gif", 43)


def test_an_order_id_made_to_be_slow_is_refused_at_once(edge: System) -> None:
    for text in ("%7b" * 21_000, "{" * 60_000):
        answer = edge.post_json("/v1/events", {"program": "plain", "order_id": text})
        assert (answer.status, answer.json["error"]["code"]) == (400, "order_id_malformed")


@pytest.mark.parametrize(
    "data",
    [
        request("/c/plain", b"Content-Length: 3", b"Transfer-Encoding: chunked", method=b"POST", body=b"0\r\n\r\n"),
        request("/c/plain", b"Content-Length: 3", b"Content-Length: 4", method=b"POST", body=b"abcd"),
        request("/postback", b"Content-Length: +3", method=b"POST", body=b"abc"),
        request("/postback", b"Content-Length: 1_0", method=b"POST", body=b"abc"),
        request("/postback", b"Content-Length: 99999999999999999999", method=b"POST"),
        request("/postback", b"Content-Length:", method=b"POST"),
        request("/postback", b"Transfer-Encoding: xchunked", method=b"POST", body=b"0\r\n\r\n"),
        request("/postback", b"Transfer-Encoding: chunked, identity", method=b"POST", body=b"0\r\n\r\n"),
        request("/postback", b"Transfer-Encoding: chunked", method=b"POST", body=b"zz\r\n"),
        request("/postback", b"Transfer-Encoding : chunked", method=b"POST", body=b"0\r\n\r\n"),
        request("/c/plain").replace(b"\r\n", b"\n"),
        b"GET /c/plain HTTP/1.1\r\nHost: localhost\nX: y\r\n\r\n",
        request("/c/plain", b"X: a\r\n folded"),
        request("/c/plain", b"X\x00: b"),
        request("/c/plain", b": b"),
        request("/c/pl ain"),
        request("c/plain"),
        request("localhost:443", method=b"CONNECT"),
        request("/c/plain", method=b"FOO"),
        request("/c/plain", method=b"get"),
        request("/c/plain").replace(b"HTTP/1.1", b"HTTP/1.x"),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
        b"\x00" * 100,
        b"{}\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused_and_ends_the_connection(edge: System, data: bytes) -> None:
    """Once, and with nothing that follows: no second reader may see another request in it."""
    replies = ask(edge, data + request("/c/plain"))
    assert len(replies) == 1 and replies[0].status in (400, 404), replies
    if replies[0].status == 400:
        assert replies[0].code == "request_malformed" and replies[0].get("connection") == "close"


def test_what_only_looks_like_no_request_is_answered(edge: System) -> None:
    for data, status in [
        (request("*", method=b"OPTIONS"), 404),
        (request("/\xfc/x".encode("latin-1")), 404),
        (request("http://[::1/c/plain"), 302),
        (b"\r\n\r\n" + request("/c/plain"), 302),
    ]:
        assert [reply.status for reply in ask(edge, data + request("/c/plain"))] == [status, 302], data


def test_after_a_refusal_the_client_can_finish_sending_and_read_why(edge: System) -> None:
    """A server that closes with data unread resets the connection, and the reason is lost on the way."""
    for _ in range(5):
        with connect(edge) as connection:
            connection.sendall(request("/postback", b"Content-Length: 5000000", method=b"POST"))
            for _ in range(20):
                connection.sendall(b"x" * 65536)
                time.sleep(0.002)
            assert read_one(connection).status == 413


# Order


def test_pipelined_clicks_are_answered_in_order(edge: System) -> None:
    subs = [mark() for _ in range(20)]
    replies = ask(edge, b"".join(request(f"/c/macros?sub1={sub1}") for sub1 in subs))
    assert [(reply.get("location") or "").split("/")[3] for reply in replies] == subs


def test_a_click_and_the_api_and_a_click_are_answered_in_order(edge: System, edge_key: str) -> None:
    auth = b"Authorization: Bearer " + edge_key.encode()
    body = json.dumps({"program": "plain", "order_id": "pipelined"}).encode()
    data = request("/c/plain")
    data += request("/v1/conversions", auth, b"Content-Length: %d" % len(body), method=b"POST", body=body)
    data += request("/c/unknown") + request("/tag.js") + request("/c/plain", method=b"HEAD")[:-2] + b"\r\n"
    with connect(edge) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        received = read_all(connection)
    statuses = [int(piece[:3]) for piece in received.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [302, 202, 404, 200, 302]


def test_a_refusal_waits_for_the_answers_before_it(edge: System, edge_key: str) -> None:
    """Else the client would take it for the answer to his first request."""
    auth = b"Authorization: Bearer " + edge_key.encode()
    two = b'[{"program":"plain","order_id":"before-refusal"}]'
    batch = request("/v1/conversions", auth, b"Content-Length: %d" % len(two), method=b"POST", body=two)
    too_long = request("/postback", b"Transfer-Encoding: chunked", method=b"POST", body=b"11170\r\n" + b"x" * 70_000)
    for last, status in ((b"garbage\r\n\r\n", 400), (request("/c/" + "x" * 9000), 414), (too_long, 413)):
        replies = ask(edge, request("/c/plain") + request("/c/ben") + last)
        assert [reply.status for reply in replies] == [302, 302, status]
        replies = ask(edge, batch + last)
        assert [reply.status for reply in replies] == [202, status]


def test_a_click_whose_body_is_broken_is_answered_and_then_the_connection_ends(edge: System) -> None:
    data = request("/c/plain", b"Transfer-Encoding: chunked", body=b"zz\r\n") + request("/c/plain")
    replies = ask(edge, data)
    assert [reply.status for reply in replies] == [302] and replies[0].get("connection") == "close"


def test_behind_an_upgrade_the_connection_goes_on(edge: System) -> None:
    """There is nothing to upgrade to."""
    upgrade = request("/c/plain", b"Connection: Upgrade", b"Upgrade: h2c")
    assert [reply.status for reply in ask(edge, upgrade + request("/c/ben") + upgrade)] == [302, 302, 302]


def test_connection_close_is_kept(edge: System) -> None:
    replies = ask(edge, request("/c/plain", b"Connection: close") + request("/c/ben"))
    assert [reply.status for reply in replies] == [302] and replies[0].get("connection") == "close"


def test_http_1_0_is_answered_and_closed(edge: System) -> None:
    for target in ("/c/plain", "/tag.js"):
        with connect(edge) as connection:
            connection.sendall(b"GET %b HTTP/1.0\r\nUser-Agent: x\r\n\r\n" % target.encode())
            (reply,) = replies_in(read_all(connection))
        assert reply.status in (200, 302) and reply.get("connection") == "close"


def test_too_many_requests_at_once_are_refused(edge: System) -> None:
    """They would all be kept in memory until their turn."""
    replies = ask(edge, request("/c/plain") * 500)
    statuses = [reply.status for reply in replies]
    assert statuses[-1] == 429 and 100 <= statuses.count(302) <= 300 and len(statuses) == statuses.count(302) + 1


# Slow clients


def test_slow_headers_end_the_connection(edge: System) -> None:
    """One byte now and then keeps nothing alive: this system waits a second."""
    began = time.monotonic()
    with connect(edge) as connection, pytest.raises(OSError):
        for byte in request("/c/plain", b"X: " + b"y" * 100):
            connection.sendall(bytes([byte]))
            time.sleep(0.1)
    assert 0.9 < time.monotonic() - began < 6


def test_silence_ends_the_connection(edge: System) -> None:
    with connect(edge) as connection:
        assert connection.recv(1) == b""


def test_a_slow_body_ends_the_connection(edge: System) -> None:
    began = time.monotonic()
    with connect(edge) as connection:
        connection.sendall(request("/postback", b"Content-Length: 100", method=b"POST", body=b"x"))
        assert connection.recv(1) == b""
    assert 1.9 < time.monotonic() - began < 7


def test_idle_connections_are_closed_later(edge: System) -> None:
    """Longer than headers may take: a browser comes back on the same connection."""
    with connect(edge) as connection:
        connection.sendall(request("/c/plain"))
        assert is_fine(read_one(connection))
        time.sleep(2.2)
        connection.sendall(request("/c/plain"))
        assert is_fine(read_one(connection))
        assert connection.recv(1) == b""


def test_a_client_that_does_not_read_is_cut_off(edge: System) -> None:
    """Else the answers to what it goes on asking would be kept for it without end."""
    with connect(edge, seconds=5) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with pytest.raises(OSError):
            for _ in range(3000):
                connection.sendall(request("/c/unknown") * 40)


def test_a_client_that_goes_away_harms_nobody(edge: System) -> None:
    for _ in range(30):
        with connect(edge) as connection:
            connection.sendall(request("/c/plain") * 3)
            linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)  # a reset
        with connect(edge) as connection:
            connection.sendall(request("/postback", b"Content-Length: 100", method=b"POST", body=b"half of it"))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        with connect(edge) as connection:
            connection.sendall(request("/postback", b"Content-Length: 100", method=b"POST", body=b"half of it"))
    assert is_fine(ask_once(edge, request("/c/plain")))


def test_after_all_this_nothing_failed_inside(edge: System) -> None:
    """No error in any log, no row refused, both workers still the first ones."""
    assert edge.sql("SELECT * FROM dead_letters") == []
    for path in (edge.data_dir / "log").glob("tracker-*.log"):
        lines = path.read_text().splitlines()
        assert not [line for line in lines if '"level":"error"' in line or "Traceback" in line], lines
        assert sum("tracker listening" in line for line in lines) == 1
