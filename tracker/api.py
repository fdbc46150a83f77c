"""The edge's endpoints but for clicks: pixel, tag, postback, conversions, reversals, explanations.

Straight lines: who asks, what he says (report_fields.py), record it (conversions.py), answer. One shape of error
everywhere; a 2xx means that it is recorded, but for the pixel, whose GIF is shown whatever happens.

Browsers may say anything, so what they can make us keep is bounded: reports by address (`rate_clicks_per_ip`), refused
reports of the pixel by worker.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
from redis.exceptions import RedisError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from schemas.logs import logger
from schemas.settings import Settings
from tracker.answers import (
    NO_STORE,
    broken,
    error_body,
    field_error,
    gone,
    http_error,
    json_response,
    not_recorded,
)
from tracker.authorization import Door, Sender, bearer, own_program, sender_of
from tracker.click_id import ClickIds, visitor_text
from tracker.conversions import Conversions, NotRecorded, from_spool, spooled
from tracker.cookie import read_visitor
from tracker.explain import Explanations
from tracker.links import Links
from tracker.openapi import document
from tracker.origins import Origins, cors
from tracker.pages import PIXEL
from tracker.parameters import parse_query
from tracker.postbacks import Postbacks, conflict, refusal
from tracker.rates import Rates
from tracker.report_fields import (
    FieldError,
    canonical,
    read_reversal,
)
from tracker.report_reader import ReportReader, with_what_is_left_out
from tracker.reports import Outcome, Report
from tracker.signatures import is_signed
from tracker.spool import Spool

_PROBLEMS_A_SECOND_MAX = 20
TAG = Path(__file__).parent / "tag.js"


class Api:
    """The endpoints of one worker. `clock` gives ms."""

    def __init__(
        self,
        settings: Settings,
        links: Links,
        door: Door,
        ids: ClickIds,
        conversions: Conversions,
        explanations: Explanations,
        spool: Spool,
        clock: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._links = links
        self._door = door
        self._conversions = conversions
        self._reader = ReportReader(links, settings.conversions, ids, clock)
        self.postbacks = Postbacks(door, self._reader, conversions.take)
        self._explanations = explanations
        self._spool = spool
        self._clock = clock
        self._tag = TAG.read_bytes()
        self._interface = orjson.dumps(document(settings))
        self._rates = Rates(settings.limits.rate_clicks_per_ip, per_visitor_max=0)
        self._problems = Rates(_PROBLEMS_A_SECOND_MAX, per_visitor_max=0)
        self._origins = Origins(links)

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/pixel.gif", self.pixel, methods=["GET"]),
                Route("/tag.js", self.tag, methods=["GET"]),
                Route("/openapi.json", self.interface, methods=["GET"]),
                Route("/v1/events", self.events, methods=["POST", "OPTIONS"]),
                Route("/postback", self.postback, methods=["GET", "POST"]),
                Route("/v1/conversions", self.convert, methods=["POST"]),
                Route("/v1/reversals", self.reverse, methods=["POST"]),
                Route("/v1/conversions/{program}/{order_id:path}/explain", self._explanations.answer, methods=["GET"]),
            ],
            exception_handlers={
                FieldError: field_error,
                NotRecorded: not_recorded,
                HTTPException: http_error,
                ClientDisconnect: gone,
                Exception: broken,
            },
        )

    async def pixel(self, request: Request) -> Response:
        """A browser's claim by image: always the GIF; what was wrong with it is kept for the merchant."""
        if request.method == "GET":
            try:
                await self._take_pixel(request)
            except NotRecorded:
                pass  # counted where it happened
            except Exception as error:  # the page is a shop's: it gets its image
                logger().error("pixel failed", exc_info=error)
        return Response(PIXEL, media_type="image/gif", headers=NO_STORE)

    async def _take_pixel(self, request: Request) -> None:
        params = _query(request)
        try:
            self._check_rate(request)
            known, unknown = canonical(params)
            report = self._reader.read(known, "pixel", self._visitor(request))
            await self._submit_or_spool(report, with_what_is_left_out(unknown, known, report))
        except FieldError as error:
            await self._keep_problem("pixel", params, error)

    async def tag(self, _request: Request) -> Response:
        return Response(
            self._tag,
            media_type="text/javascript",
            headers={"Cache-Control": "public, max-age=3600", "X-Content-Type-Options": "nosniff"},
        )

    async def interface(self, _request: Request) -> Response:
        """What this edge takes and answers, for machines; any page may read it."""
        headers = {"Cache-Control": "public, max-age=3600", "Access-Control-Allow-Origin": "*"}
        return Response(self._interface, media_type="application/json", headers=headers)

    async def events(self, request: Request) -> Response:
        """A browser's claim by the tag. Any shop's page may read the answer, an error too: a preflight does not say yet
        which program is meant, and whoever builds a page in wants to see what is wrong."""
        origin = request.headers.get("origin")
        try:
            if request.method == "POST":
                await self._take_event(request, origin)
            response = Response(status_code=204, headers=NO_STORE)
        except FieldError as error:
            response = await field_error(request, error)
        except NotRecorded as error:
            response = await not_recorded(request, error)
        if origin and self._origins.may_read(origin):
            response.headers.update(cors(origin))
        return response

    async def _take_event(self, request: Request, origin: str | None) -> None:
        self._check_rate(request)
        params = _as_object(await _json(request))
        try:
            await self._record_event(request, params, origin)
        except FieldError as error:  # a beacon's sender never sees the answer
            await self._keep_problem("tag", params, error)
            raise

    async def _record_event(self, request: Request, params: dict[str, Any], origin: str | None) -> None:
        known, unknown = canonical(params)
        report = self._reader.read(known, "tag", self._visitor(request))
        # "null" is said by pages that keep their address back: as good as nothing said.
        if origin not in (None, "null") and not self._origins.may_report(str(origin), report.program):
            raise FieldError(403, "origin_not_allowed", "this site is not among the program's allowed_hosts", "program")
        await self._submit_or_spool(report, with_what_is_left_out(unknown, known, report))

    async def _keep_problem(self, source: str, params: dict[str, Any], error: FieldError) -> None:
        """For the merchant to see; of a program that nobody has there is nobody to show it to."""
        shown = {name: value for name, value in params.items() if isinstance(value, str)}
        is_for_somebody = self._links.merchant_of(shown.get("program", "")) is not None
        if is_for_somebody and error.status != 429 and not self._problems.exceeded("", None, self._clock()):
            with suppress(RedisError, OSError, TimeoutError):
                await self._conversions.record_problem(source, shown, error)

    async def postback(self, request: Request) -> Response:
        """A merchant's server, as trackers know it: everything in the query or a form."""
        if request.method == "HEAD":  # who asks what a GET would answer reports nothing
            raise HTTPException(405, headers={"Allow": "GET, POST"})
        params: dict[str, Any] = dict(_query(request))
        if request.method == "POST":
            body = await request.body()
            if request.headers.get("content-type", "").lower().startswith("application/json"):
                params |= _as_object(_parse_json(body))
            else:
                params |= parse_query(body)
        return _answer(*await self._conversions.submit(*self.postbacks.read(params, sender_of(request))))

    async def convert(self, request: Request) -> Response:
        """A merchant's server, with key or signature: one conversion, or a list of up to `limits.batch_items`."""
        merchant, body = await self._reporter(request)
        signed = is_signed(request.headers)

        async def one(item: dict[str, Any]) -> tuple[str, str]:
            if signed and "reversal_id" in item:  # the path is not signed: a refund must not be made a sale by others
                raise FieldError(400, "reversal_id_not_accepted", "send it to /v1/reversals", "reversal_id")
            known, unknown = canonical(item)
            report = self._reader.read(known, "api", None, merchant)
            return await self._conversions.submit(report, with_what_is_left_out(unknown, known, report))

        return await self._each(_parse_json(body), one)

    async def reverse(self, request: Request) -> Response:
        """Refunds, one or a list."""
        merchant, body = await self._reporter(request)

        async def one(item: dict[str, Any]) -> tuple[str, str]:
            reversal = read_reversal(item)
            own_program(self._links, reversal["program"], merchant)
            return "accepted", await self._conversions.reverse(reversal, "api")

        return await self._each(_parse_json(body), one)

    async def submit_spooled(self, record: dict[str, Any]) -> bool:
        """Take in a report that waited in the spool; False where the log still cannot."""
        try:
            report, params = from_spool(record)
            await self._conversions.submit(report, params)
        except NotRecorded:
            return False
        except Exception as error:  # kept in the log file: one bad record must not stop all that wait behind it
            logger().error("spooled report not taken", record=record, exc_info=error)
        return True

    async def _reporter(self, request: Request) -> tuple[str, bytes]:
        """The merchant, by his signature or his key, and the body that he sent. Raises FieldError."""
        sender = sender_of(request)
        if is_signed(request.headers):
            body = await request.body()
            return str(self._door.signer_record(sender, request.headers, body)["merchant"]), body
        merchant = self._merchant(sender, bearer(request), "api")
        return merchant, await request.body()

    def _merchant(self, sender: Sender, key: str, kind: str) -> str:
        return str(self._door.key_record(sender, key, kind)["merchant"])

    def _visitor(self, request: Request) -> str | None:
        cookie = "; ".join(request.headers.getlist("cookie")).encode("latin-1")
        visitor = read_visitor(cookie, self._settings.cookie.name.encode())
        return visitor_text(visitor) if visitor else None

    def _check_rate(self, request: Request) -> None:
        if self._rates.exceeded(self._door.client_address(sender_of(request)), None, self._clock()):
            raise FieldError(429, "too_many_requests", "too many reports from this address, try again later")

    async def _submit_or_spool(self, report: Report, params: dict[str, str]) -> None:
        try:
            await self._conversions.submit(report, params)
        except NotRecorded:
            kept: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            self._spool.add(["report", spooled(report, params)], kept.set_result)
            if not await kept:
                raise

    async def _each(self, body: Any, one: Callable[[dict[str, Any]], Awaitable[tuple[str, str]]]) -> Response:
        if isinstance(body, dict):
            return _answer(*await one(body), created=202)
        most = self._settings.limits.batch_items
        if not isinstance(body, list):
            raise FieldError(400, "json_malformed", "the body must be a JSON object, or a list of them")
        if len(body) > most:
            raise FieldError(413, "batch_too_large", f"at most {most} items at once")
        flight = asyncio.Semaphore(64)

        async def guarded(item: Any) -> dict[str, Any]:
            async with flight:
                try:
                    outcome, conversion_id = await one(_as_object(item))
                    if outcome == Outcome.CONFLICT:
                        raise conflict()
                except Exception as error:  # the others' results must be told all the same
                    told = refusal(error)
                    return {"status": "error", "http_status": told.status, **error_body(told)}
                return {"status": outcome, "conversion_id": conversion_id}

        results = await asyncio.gather(*(guarded(item) for item in body))
        if results and all(result.get("http_status") == 503 for result in results):
            raise NotRecorded
        failed = any(result["status"] == "error" for result in results)
        return json_response({"results": results}, 207 if failed else 202)


def _answer(outcome: str, conversion_id: str, created: int = 200) -> Response:
    if outcome == Outcome.CONFLICT:
        raise conflict()
    return json_response({"status": outcome, "conversion_id": conversion_id}, created)


def _query(request: Request) -> dict[str, str]:
    return parse_query(request.scope["query_string"])


async def _json(request: Request) -> Any:
    return _parse_json(await request.body())


def _parse_json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise FieldError(400, "json_malformed", "the body is not JSON") from None


def _as_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise FieldError(400, "json_malformed", "a report must be a JSON object")
    return value
