"""Requests to the edge as bytes: in whatever packets they come the answer is the same, well-formed, and leads to the
shop; what is recorded is a row.
"""

import asyncio
import re
from collections import Counter
from itertools import pairwise
from typing import Any

import orjson
from ada_url import parse_url
from hypothesis import given
from hypothesis import strategies as st

from schemas.projection import Projection
from schemas.settings import Settings
from tests.connection import Transport, connections
from tests.fuzz.budget import examples
from tests.fuzz.hostile import damaged, pieces, texts
from tracker.click_id import ClickIds
from tracker.links import Links
from tracker.rates import Rates
from tracker.redirect import Redirect
from tracker.shard import Event

RECORDS: dict[str, Any] = {
    "program:p": {
        "id": "p",
        "merchant": "m",
        "name": "P",
        "landing_url": "https://shop.example/{sub1}/x?a={affiliate}&b={sub2}#{ref}",
        "allowed_hosts": ["shop.example", "*.shop.example"],
        "fallback_url": None,
        "click_param": "click_id",
        "status": "active",
        "terms": [{"from": 0}],
    },
    "affiliate:a": {"id": "a", "name": "A", "status": "active"},
    "link:x": {"code": "x", "program": "p", "affiliate": "a", "status": "active"},
}
ANSWER = re.compile(rb"HTTP/1\.1 (\d{3}) [A-Za-z ]+\r\n((?:[a-z-]+: [ -~]*\r\n)+)\r\n")
HEADERS = {"location", "set-cookie", "cache-control", "date", "content-length", "content-type", "connection", "allow"}
HEADERS |= {"retry-after"}
RAW = {*range(32), *range(127, 256)} - {*b"\r\n\t"}


class Recorder:
    """A log that has everything at once."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def shard_of(self, _visitor: bytes) -> int:
        return 0

    def append(self, _shard: int, event: Event) -> None:
        self.lines.append(event.line)
        event.done(True)


def answers(packets: list[bytes]) -> tuple[bytes, list[bytes]]:
    """What is written, and what is recorded."""
    projection = Projection()
    projection.take_all("1 1-0", ((key, orjson.dumps(record)) for key, record in RECORDS.items()))
    log, ids = Recorder(), ClickIds({1: bytes(48)})
    redirect = Redirect(Settings(), Links(projection), log, ids, Rates(0, 0), lambda: 7, bytes, 3, Counter())  # type: ignore[arg-type]
    transport = Transport()

    async def receive() -> None:
        protocol = connections(redirect.click)()
        protocol.connection_made(transport)  # type: ignore[arg-type]
        for packet in packets:
            if not transport.has_ended:
                protocol.data_received(packet)
            for _ in range(4):
                await asyncio.sleep(0)
        protocol.connection_lost(None)

    asyncio.run(receive())
    return transport.written, log.lines


raw = texts.map(lambda text: text.encode("utf-8", "replace"))
targets = st.builds(
    lambda path, name, value: path + name + b"=" + value,
    st.sampled_from(
        [b"/c/x?", b"/a/a/p?", b"/v/x.gif?", b"/c/%0d%0a?", b"//evil.example/?", b"http://evil.example/c/x?"]
    ),
    st.sampled_from([b"sub1", b"sub2", b"ref", b"to", b"consent", b"click_id", b"sub1=a&to"]),
    raw | st.builds(b"https://".__add__, raw),
)
names = st.sampled_from(
    b"Host User-Agent Referer Cookie X-Forwarded-For X-Forwarded-Proto Connection Sec-GPC Sec-Purpose".split()
)
lines = st.lists(st.builds(lambda name, value: name + b": " + value + b"\r\n", names, raw), max_size=4).map(b"".join)
requests = st.builds(
    lambda method, target, head: method + b" " + target + b" HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n",
    *(st.sampled_from([b"GET", b"GET", b"HEAD", b"POST"]), targets, lines),
)
GOOD = b"GET /c/x?sub1=a HTTP/1.1\r\nHost: localhost\r\nUser-Agent: Firefox\r\nCookie: lc=Chxun7RZMjU\r\n\r\n"
streams = requests | st.lists(requests, max_size=3).map(b"".join) | damaged(GOOD) | damaged(GOOD * 2)


@examples(60)
@given(streams, st.lists(st.integers(0, 400), max_size=5))
def test_the_answer_depends_on_no_packets(data: bytes, cuts: list[int]) -> None:
    places = [0, *sorted({cut for cut in cuts if cut < len(data)}), len(data)]
    packets = [data[start:end] for start, end in pairwise(places) if end > start]
    whole, in_parts = _check(*answers([data])), _check(*answers(packets))
    # What no browser sends raw is made good in a request's first packet, and else refused.
    assert whole == in_parts or (set(data) & RAW and 400 in in_parts)


def _check(written: bytes, recorded: list[bytes]) -> list[int]:
    """The statuses, each of a well-formed answer that leads nowhere but to the shop."""
    statuses = []
    while written:
        answer = ANSWER.match(written)
        assert answer, written
        pairs = [line.split(b": ", 1) for line in answer[2].splitlines()]
        headers = {name.decode(): value.decode() for name, value in pairs}
        assert len(headers) == len(pairs) and headers.keys() <= HEADERS
        if "location" in headers:
            place = parse_url(headers["location"])
            assert place["href"] == headers["location"] and re.fullmatch(r"(.+\.)?shop\.example\.?", place["hostname"])
        assert re.fullmatch(r"lc=[\w-]{11}; Path=/; .*", headers.get("set-cookie", "lc=AAAAAAAAAAA; Path=/; "))
        statuses.append(int(answer[1]))
        body = int(headers.get("content-length", "0"))
        written = written[answer.end() :]
        written = written[body:] if not written.startswith(b"HTTP/1.1 ") else written  # HEAD has no body
    for line in recorded:
        row = orjson.loads(line)
        assert line.count(b"\n") == 0 and ({"click_id", "visitor", "flags"} <= row.keys() or "refusal_id" in row)
    return statuses


@examples(50)
@given(pieces, raw)
def test_a_click_is_redirected_whatever_is_in_its_query(piece: str, value: bytes) -> None:
    query = (piece.encode("utf-8", "replace") + value).translate(None, b" \t\r\n#")
    written, recorded = answers([b"GET /c/x?sub1=%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % query])
    assert _check(written, recorded) == [302] and len(recorded) == 1
