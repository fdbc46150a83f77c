"""The private port: health, metrics, and the questions of the command line.

/healthz, /readyz and /metrics are open to whoever reaches the port; the rest wants the token in `admin.token` of the
data folder. People's SQL runs in clients of its own, checked (sql_guard.py), with limits on time, memory and rows.
"""

import asyncio
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from hmac import compare_digest
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from console.analyst import analyst_client, ask
from console.backups import Backups
from console.check import check
from console.client import Refusal
from console.explain import RedisProjection, explain
from console.explanations import Busy, Explanations
from console.forgets import Forgets
from console.metrics import Metrics, beats
from console.pause import Pause
from console.rebuilds import Rebuilds
from console.replays import Refused, Replays
from console.tables import Tables
from schemas import keys
from schemas.log_server import clock_ms, servers
from schemas.projection import MARK
from schemas.settings import Settings

_BEAT_AGE_MS_MAX = 5000
_CLOCK_OFFSET_MS_MAX = 100


class Admin:
    """Endpoints of the private port."""

    def __init__(
        self,
        settings: Settings,
        redis: Any,
        tables: Tables,
        metrics: Metrics,
        pause: Pause,
        is_ready: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._redis = redis
        self._metrics = metrics
        self._is_ready = is_ready
        self._questions = threading.Lock()
        self._client = tables.client()
        self._replays = Replays(settings, redis, tables)
        self._explanations = Explanations(settings, redis, tables)
        alone = threading.Lock()  # what changes or copies everything does so one at a time
        self._rebuilds = Rebuilds(settings, redis, tables, alone, _now, lambda: f"rebuild {secrets.token_hex(8)}")
        self._forgets = Forgets(settings, redis, tables, alone, lambda: secrets.token_hex(8))
        self._backups = Backups(settings, redis, tables, pause, alone, _now)
        self._sql_clients = [analyst_client(tables, settings) for _ in range(settings.limits.sql_concurrency)]

    def app(self, token: str) -> Starlette:
        """The ASGI application; `token` opens what is not public."""

        def private(handler: Any) -> Any:
            async def guarded(request: Request) -> Response:
                scheme, _, given = request.headers.get("authorization", "").partition(" ")
                if scheme.lower() != "bearer" or not compare_digest(given.encode(), token.encode()):
                    return _error(401, "token_invalid", "the token is in admin.token of the data folder")
                return await handler(request)  # type: ignore[no-any-return]

            return guarded

        return Starlette(
            routes=[
                Route("/healthz", self.healthz),
                Route("/readyz", self.readyz),
                Route("/metrics", self.show_metrics),
                Route("/sql", private(self.sql), methods=["POST"]),
                Route("/explain", private(self.explain)),
                Route("/explain/merchant", private(self.explain_to_merchant)),
                Route("/explain/affiliate", private(self.explain_to_affiliate)),
                Route("/check", private(self.check), methods=["POST"]),
                Route("/replay", private(self.replay), methods=["POST"]),
                Route("/rebuild-state", private(self.rebuild_state), methods=["POST"]),
                Route("/forget", private(self.forget), methods=["POST"]),
                Route("/backup", private(self.backup), methods=["POST"]),
            ],
            exception_handlers={Exception: _broken},
        )

    async def healthz(self, _request: Request) -> Response:
        return _json({"status": "alive"})

    async def readyz(self, _request: Request) -> Response:
        """Whether clicks and sales can be recorded now, with the reasons why not."""
        problems = await asyncio.to_thread(self._problems)
        return _json({"status": "not ready" if problems else "ready", "problems": problems}, 503 if problems else 200)

    def _problems(self) -> list[str]:
        problems = [] if self._is_ready() else ["log server: claims not known yet, or not reachable"]
        now = time.time_ns() // 1_000_000
        try:
            for server in servers(self._redis):
                offset = abs(clock_ms(server) - _now())
                if offset > _CLOCK_OFFSET_MS_MAX:
                    problems.append(f"clock: {offset} ms from the log server's")
        except Exception as error:
            problems.append(f"log server: {type(error).__name__}")
        found = beats(self._settings.data.dir)
        position = self._position()
        if not found:
            problems.append("trackers: none")
        for beat in found:
            if now - beat["at"] > _BEAT_AGE_MS_MAX:
                problems.append(f"tracker {beat['number']}: silent for {(now - beat['at']) // 1000} s")
            elif not beat["log_up"]:
                problems.append(f"tracker {beat['number']}: cannot reach the log, spooling")
            elif beat["position"] < position:
                problems.append(f"tracker {beat['number']}: knows {beat['position']} of {position} changes of links")
        return problems

    def _position(self) -> int:
        """How many versions of entities there are."""
        try:
            mark: bytes = self._redis.hget(keys.PROJECTION, MARK) or b"0"
        except Exception:
            return 0
        return int(mark.partition(b" ")[0])

    async def show_metrics(self, _request: Request) -> Response:
        body = await asyncio.to_thread(self._metrics.render)
        return Response(body, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def sql(self, request: Request) -> Response:
        """One SELECT of a person's: `{"query": …}` -> `{"columns": […], "rows": [{…}]}`."""
        try:
            query = orjson.loads(await request.body())["query"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return _error(400, "query_missing", 'the body must be {"query": "SELECT …"}', "query")
        if not isinstance(query, str):
            return _error(400, "query_malformed", "query must be text", "query")
        if not self._sql_clients:
            return _error(
                429,
                "too_many_queries",
                "limits.sql_concurrency queries are running",
                None,
                {"Retry-After": "1"},
            )
        client = self._sql_clients.pop()
        try:
            return await asyncio.to_thread(self._run, client, query)
        finally:
            self._sql_clients.append(client)

    @staticmethod
    def _run(client: Any, query: str) -> Response:
        try:
            return _json(ask(client, query))
        except Refusal as refusal:
            return _error(400, refusal.code, str(refusal), "query")

    async def explain(self, request: Request) -> Response:
        params = request.query_params
        sale = params.get("program", ""), params.get("order_id", ""), params.get("goal")
        return _explanation(await asyncio.to_thread(self._ask, explain, RedisProjection(self._redis), *sale))

    async def explain_to_merchant(self, request: Request) -> Response:
        """For the edge, which has made sure that the program is his: `program, order_id, goal`."""
        return await self._explained(request, self._explanations.for_merchant, "program", "order_id", "goal")

    async def explain_to_affiliate(self, request: Request) -> Response:
        """For the edge, which has made sure who asks: `affiliate, program, order_id, goal`."""
        names = ("affiliate", "program", "order_id", "goal")
        return await self._explained(request, self._explanations.for_affiliate, *names)

    @staticmethod
    async def _explained(request: Request, question: Any, *names: str) -> Response:
        try:
            return _explanation(await question(*(request.query_params.get(name, "") for name in names)))
        except Busy:
            return _error(503, "explain_busy", "limits.explain_concurrency explanations are running")

    async def check(self, _request: Request) -> Response:
        settings = self._settings
        findings = await asyncio.to_thread(
            self._ask, check, self._redis, settings.redis.shards, settings.data.dir / "spool"
        )
        return _json([{"name": f.name, "counted": f.counted, "broken": f.broken} for f in findings])

    async def replay(self, request: Request) -> Response:
        """The evidence of a period: `{program, from, to, as_of, set}` -> lines of JSON (replay_source.py)."""
        body = await request.body()
        return await self._stream(self._replays.open, body, _now())

    async def rebuild_state(self, _request: Request) -> Response:
        """Touch state rebuilt from the tables -> lines of JSON that say how far it is (rebuilds.py)."""
        return await self._stream(self._rebuilds.open)

    async def forget(self, request: Request) -> Response:
        """A person forgotten: `{visitor or customer, program, dry_run}` -> lines of JSON (forgets.py)."""
        return await self._stream(self._forgets.open, await request.body())

    async def backup(self, request: Request) -> Response:
        """A copy of everything: `{folder, config}` -> lines of JSON (backups.py)."""
        return await self._stream(self._backups.open, await request.body())

    @staticmethod
    async def _stream(open_lines: Callable[..., Iterator[bytes]], *arguments: Any) -> Response:
        try:
            lines = await asyncio.to_thread(open_lines, *arguments)
        except Refused as refused:
            return _error(refused.status, refused.code, str(refused), refused.param)
        return StreamingResponse(_in_thread(lines), media_type="application/x-ndjson")

    def _ask(self, question: Any, *arguments: Any) -> Any:
        with self._questions:
            return question(self._client, *arguments)


def _now() -> int:
    return time.time_ns() // 1_000_000


async def _in_thread(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
    """What an iterator gives that waits for others; closed in any case, as when nobody reads on."""
    loop = asyncio.get_running_loop()
    step = loop.run_in_executor(None, next, parts, None)
    try:
        while (part := await asyncio.shield(step)) is not None:
            yield part
            step = loop.run_in_executor(None, next, parts, None)
    finally:  # a step may still be running: nothing can be awaited once this was cancelled
        step.add_done_callback(lambda _: loop.run_in_executor(None, parts.close))  # type: ignore[attr-defined]


async def _broken(_request: Request, error: Exception) -> Response:
    """One of the stores does not answer, or a defect: the log says which."""
    return _error(503, "stores_unreachable", f"{type(error).__name__}: {error}"[:500], None, {"Retry-After": "2"})


def _explanation(answer: Any) -> Response:
    if answer is None:
        return _error(404, "conversion_unknown", "no such sale has been reported", "order_id")
    return _json(answer)


def _json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(
        orjson.dumps(content),
        status,
        media_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def _error(
    status: int, code: str, message: str, param: str | None = None, headers: dict[str, str] | None = None
) -> Response:
    return _json({"error": {"code": code, "message": message, "param": param}}, status, headers)
