"""GET /v1/conversions/{program}/{order_id}/explain: why a sale went where it went, asked of the engine.

The edge has no tables. It finds out who asks, and passes the question on to the private port of this machine, which
answers a merchant everything and an affiliate what concerns him (console/explanations.py). What is not somebody's to
see is 404, as if it were not there. Nothing of this is on the path of a click or of a sale: while the engine does not
answer, this endpoint alone is 503. Called by api.py.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

import orjson
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import Response

from schemas.kinds import Address
from schemas.settings import Settings
from tracker.answers import NO_STORE
from tracker.authorization import Door, bearer, own_program, sender_of
from tracker.links import Links
from tracker.parameters import parse_query
from tracker.rates import Rates
from tracker.report_fields import FieldError, read_goal, read_order_id, read_program

ANSWER_BYTES_MAX = 4 << 20
_LENGTH = re.compile(rb"^content-length: *(\d+)", re.IGNORECASE | re.MULTILINE)


class EngineSilent(Exception):
    """The private port gave no whole answer."""


class AnswerTooLarge(Exception):
    """The answer is longer than ANSWER_BYTES_MAX."""


class Explanations:
    """Answers for one worker. `is_reported(program, order_id, goal)` says whether a sale is known to the log server,
    be it in the tables yet or not; `clock` gives ms."""

    def __init__(
        self,
        settings: Settings,
        links: Links,
        door: Door,
        is_reported: Callable[[str, str, str], Awaitable[bool]],
        clock: Callable[[], int],
        counters: Counter[str],
    ) -> None:
        self._links = links
        self._door = door
        self._is_reported = is_reported
        self._clock = clock
        self._counters = counters
        self._address = settings.server.admin_listen
        self._token = settings.data.dir / "admin.token"
        self._seconds = settings.limits.explain_seconds
        self._rates = Rates(per_address_max=0, per_visitor_max=settings.limits.rate_explain_per_key)

    async def answer(self, request: Request) -> Response:
        """Why a sale went where it went, as far as whoever asks may see it."""
        record = self._door.key_record(sender_of(request), bearer(request), "api", "affiliate")
        if self._rates.exceeded("", record["id"].encode(), self._clock()):
            raise FieldError(429, "too_many_requests", "too many questions with this key, try again later")
        program = read_program(request.path_params["program"])
        order_id = read_order_id(request.path_params["order_id"])
        goal = read_goal(parse_query(request.scope["query_string"]).get("goal"))
        if record["kind"] == "affiliate":
            body = await self._for_affiliate(record["affiliate"], program, order_id, goal)
        else:
            own_program(self._links, program, record["merchant"])
            body = await self._for_merchant(program, order_id, goal)
        self._counters[f"explanations:{record['kind']}:{200 if body else 404}"] += 1
        if body is None:
            raise FieldError(404, "conversion_unknown", "there is no such sale of yours", "order_id")
        return Response(body, media_type="application/json", headers=NO_STORE)

    async def _for_affiliate(self, affiliate: str, program: str, order_id: str, goal: str) -> bytes | None:
        return await self._ask("/explain/affiliate", affiliate=affiliate, program=program, order_id=order_id, goal=goal)

    async def _for_merchant(self, program: str, order_id: str, goal: str) -> bytes | None:
        sale = {"program": program, "order_id": order_id, "goal": goal}
        body = await self._ask("/explain/merchant", **sale)
        if body is None and await self._is_on_its_way(program, order_id, goal):
            return orjson.dumps({**sale, "status": "pending"})
        return body

    async def _is_on_its_way(self, program: str, order_id: str, goal: str) -> bool:
        """Whether a sale that the tables do not have has been reported: it is in the log."""
        try:
            return await self._is_reported(program, order_id, goal)
        except (RedisError, OSError, TimeoutError) as error:
            raise self._unavailable(type(error).__name__) from error

    async def _ask(self, path: str, **params: str) -> bytes | None:
        """The engine's answer; None where it knows no such sale. Raises FieldError."""
        try:
            async with asyncio.timeout(self._seconds):
                status, body = await ask(self._address, self._read_token(), f"{path}?{urlencode(params)}")
        except AnswerTooLarge:
            message = "this sale has more touches and reports than can be shown here"
            raise FieldError(422, "explanation_too_large", message, "order_id") from None
        except (EngineSilent, OSError, TimeoutError) as error:
            raise self._unavailable(type(error).__name__) from error
        if status not in (200, 404):
            raise self._unavailable(str(status))
        return body if status == 200 else None

    def _read_token(self) -> bytes:
        """Read anew each time: the engine makes it at its first start, and whoever removes the file gets another."""
        return self._token.read_bytes().strip()

    def _unavailable(self, reason: str) -> FieldError:
        self._counters[f"explanations_unavailable:{reason}"] += 1
        return FieldError(503, "explain_unavailable", "sales cannot be explained now; try again")


async def ask(address: Address, token: bytes, target: str) -> tuple[int, bytes]:
    """One GET of a private port: status and body. In HTTP/1.0, whose answers end with the connection.

    Raises EngineSilent, AnswerTooLarge and OSError; waits for ever unless it is told otherwise.
    """
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        writer.write(b"GET %b HTTP/1.0\r\nAuthorization: Bearer %b\r\n\r\n" % (target.encode("ascii"), token))
        answer = bytearray()
        while data := await reader.read(1 << 16):
            answer += data
            if len(answer) > ANSWER_BYTES_MAX:
                raise AnswerTooLarge
        return _parsed(bytes(answer))
    finally:
        writer.close()


def _parsed(answer: bytes) -> tuple[int, bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    status, length = re.match(rb"HTTP/1\.[01] (\d{3}) ", head), _LENGTH.search(head)
    if status is None or length is None or len(body) != int(length[1]):
        raise EngineSilent("cut off" if head else "nothing")
    return int(status[1]), body
