"""The edge asks the private port: an answer that is whole is passed on, whatever else comes is told by name."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import Response

from schemas.api_keys import RANDOM_BYTES, NewKey, make_key
from schemas.kinds import Address
from schemas.projection import Projection
from schemas.settings_fields import Data, Limits, Server, Settings
from tracker.authorization import Door
from tracker.explain import ANSWER_BYTES_MAX, Explanations
from tracker.links import Links
from tracker.report_fields import FieldError

MERCHANT = make_key("acme", "api", bytes(RANDOM_BYTES), 0)
AFFILIATE = make_key("acme", "affiliate", b"\1" * RANDOM_BYTES, 0)
TOKEN = make_key("acme", "postback", b"\2" * RANDOM_BYTES, 0)


def whole(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d Whatever\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def request(key: NewKey | None, program: str = "shoes", query: bytes = b"") -> Request:
    headers = [(b"authorization", b"Bearer " + key.text.encode())] if key else []
    params = {"program": program, "order_id": "o 1&x=y"}
    return Request({"type": "http", "headers": headers, "query_string": query, "path_params": params})


class Edge:
    """The endpoint beside a private port that answers what a test says. `asked`: the questions that came."""

    def __init__(self, folder: Path, reply: bytes | None, is_reported: bool | Exception = False) -> None:
        (folder / "admin.token").write_text("secret\n")
        self.folder = folder
        self.reply = reply
        self.is_reported = is_reported
        self.asked: list[bytes] = []
        self.counters: Counter[str] = Counter()

    def ask(self, *requests: Request, rate: int = 0) -> list[Any]:
        """What each is answered: a Response, or the FieldError."""
        return asyncio.run(self._ask(requests, rate))

    async def _ask(self, requests: tuple[Request, ...], rate: int) -> list[Any]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        settings = Settings(
            server=Server(admin_listen=Address("127.0.0.1", port)),
            data=Data(dir=self.folder),
            limits=Limits(explain_seconds=1, rate_explain_per_key=rate),
        )
        known = links()
        door = Door(settings, known, lambda: 1000, self.counters)
        endpoint = Explanations(settings, known, door, self._is_reported, lambda: 1000, self.counters)
        try:
            return [await self._one(endpoint, one) for one in requests]
        finally:
            server.close()

    @staticmethod
    async def _one(endpoint: Explanations, one: Request) -> Response | FieldError:
        try:
            return await endpoint.answer(one)
        except FieldError as error:
            return error

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(await reader.readuntil(b"\r\n\r\n"))
        if self.reply is None:
            await reader.read()  # says nothing until the other hangs up
        else:
            writer.write(self.reply)
        writer.close()

    async def _is_reported(self, *_sale: str) -> bool:
        if isinstance(self.is_reported, Exception):
            raise self.is_reported
        return self.is_reported


def links() -> Links:
    program = {"id": "shoes", "merchant": "acme", "status": "active", "terms": None}
    records = {f"key:{key.id}": key.record for key in (MERCHANT, AFFILIATE, TOKEN)}
    records |= {f"{role}:acme": {"id": "acme", "status": "active"} for role in ("merchant", "affiliate")}
    projection = Projection()
    records |= {"program:shoes": program, "program:lamps": {**program, "id": "lamps", "merchant": "bright"}}
    projection.take_all("1 1-0", ((name, orjson.dumps(record)) for name, record in records.items()))
    return Links(projection)


def told(answer: Any) -> tuple[int, str]:
    assert isinstance(answer, FieldError), answer.body
    return answer.status, answer.code


@pytest.mark.parametrize(
    ("key", "target"),
    [
        (MERCHANT, b"/explain/merchant?program=shoes&order_id=o+1%26x%3Dy&goal=sale"),
        (AFFILIATE, b"/explain/affiliate?affiliate=acme&program=shoes&order_id=o+1%26x%3Dy&goal=sale"),
    ],
)
def test_each_asks_as_who_he_is(tmp_path: Path, key: NewKey, target: bytes) -> None:
    edge = Edge(tmp_path, whole(200, b'{"status":"decided"}'))
    (answer,) = edge.ask(request(key))
    assert (answer.status_code, answer.body) == (200, b'{"status":"decided"}')
    assert edge.asked == [b"GET " + target + b" HTTP/1.0\r\nAuthorization: Bearer secret\r\n\r\n"]


@pytest.mark.parametrize(
    ("key", "program", "error"),
    [
        (None, "shoes", (401, "key_invalid")),
        (TOKEN, "shoes", (403, "key_kind")),
        (MERCHANT, "lamps", (404, "program_unknown")),
        (MERCHANT, "nothing", (404, "program_unknown")),
        (MERCHANT, "", (400, "program_missing")),
    ],
)
def test_whose_it_is_not_the_engine_is_never_asked(
    tmp_path: Path, key: NewKey | None, program: str, error: tuple[int, str]
) -> None:
    edge = Edge(tmp_path, whole(200, b"{}"))
    assert [told(answer) for answer in edge.ask(request(key, program))] == [error]
    assert edge.asked == []


def test_a_sale_on_its_way_is_pending_to_the_merchant_and_unknown_to_others(tmp_path: Path) -> None:
    edge = Edge(tmp_path, whole(404, b"{}"), is_reported=True)
    merchants, affiliates = edge.ask(request(MERCHANT, query=b"goal=lead"), request(AFFILIATE))
    pending = {"program": "shoes", "order_id": "o 1&x=y", "goal": "lead", "status": "pending"}
    assert (merchants.status_code, orjson.loads(merchants.body)) == (200, pending)
    assert told(affiliates) == (404, "conversion_unknown")
    edge.is_reported = False
    assert [told(one) for one in edge.ask(request(MERCHANT))] == [(404, "conversion_unknown")]
    edge.is_reported = RedisError("gone")
    assert [told(one) for one in edge.ask(request(MERCHANT))] == [(503, "explain_unavailable")]


@pytest.mark.parametrize(
    "reply",
    [
        None,
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n{}",
        whole(200, b'{"a":1}')[:-1],
        whole(200, b"{}") + b"more",
        whole(401, b"{}"),
        whole(503, b"{}"),
        whole(500, b"{}"),
    ],
    ids=repr,
)
def test_what_is_no_whole_answer_is_none(tmp_path: Path, reply: bytes | None) -> None:
    edge = Edge(tmp_path, reply)
    assert [told(answer) for answer in edge.ask(request(MERCHANT))] == [(503, "explain_unavailable")]
    assert sum(count for name, count in edge.counters.items() if name.startswith("explanations_unavailable:")) == 1


def test_an_answer_without_end_is_cut(tmp_path: Path) -> None:
    edge = Edge(tmp_path, whole(200, b"x" * (ANSWER_BYTES_MAX + 1)))
    assert [told(answer) for answer in edge.ask(request(MERCHANT))] == [(422, "explanation_too_large")]


def test_without_a_token_or_a_port_there_is_no_answer(tmp_path: Path) -> None:
    edge = Edge(tmp_path, whole(200, b"{}"))
    (tmp_path / "admin.token").unlink()
    assert [told(answer) for answer in edge.ask(request(MERCHANT))] == [(503, "explain_unavailable")]


def test_a_key_may_ask_so_often_in_a_second(tmp_path: Path) -> None:
    edge = Edge(tmp_path, whole(200, b"{}"))
    answers = edge.ask(*[request(MERCHANT)] * 3, request(AFFILIATE), rate=2)
    assert [isinstance(answer, Response) for answer in answers] == [True, True, False, True]
    assert told(answers[2]) == (429, "too_many_requests") and len(edge.asked) == 3
