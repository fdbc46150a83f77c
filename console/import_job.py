"""The work of an import: check every row, then report each, and keep what became of it.

A report is recorded by the same step as the edge's (tracker/conversions.py), straight in the log: when it is answered
it is on disk, and the same row again is a duplicate. Rows of one order are taken in the order of the file. Called by
import_conversions.py.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing, closing
from typing import Any
from zlib import crc32

import orjson

from console.client import Refusal
from console.import_rehearsal import Rehearsal
from console.import_report import Summary, row_refused, row_taken
from console.import_rows import Row, RowsRead
from console.replay_output import Rows
from schemas import keys
from schemas.problems import FileError
from schemas.projection import Projection
from schemas.settings import Settings
from tracker.click_id import ClickIds
from tracker.conversions import Conversions, NotRecorded
from tracker.links import Links
from tracker.report_fields import FieldError
from tracker.report_reader import read_report, with_what_is_left_out
from tracker.reports import Outcome, Report

_IN_FLIGHT_MAX = 64
"""Reports on their way at once: as many as of one batch at the edge, so that live traffic gets its turn."""

PAUSES_SECONDS = (0.2, 1.0, 3.0, 10.0)
"""Before a report that could not be recorded is tried again; then the import stops."""

_LOCKS = 1024
Submit = Callable[[Report, dict[str, str]], Awaitable[tuple[Outcome, str]]]


class Job:
    """One file into one program. `redis` is redis-py's asynchronous client; `clock` gives ms, `new_id()` a fresh id."""

    def __init__(
        self,
        settings: Settings,
        redis: Any,
        ids: ClickIds,
        summary: Summary,
        clock: Callable[[], int],
        new_id: Callable[[], str],
    ) -> None:
        self._settings = settings
        self._redis = redis
        self._ids = ids
        self._summary = summary
        self._clock = clock
        self._new_id = new_id

    async def run(self, read: Callable[[str], RowsRead], is_skipping: bool, results: Rows) -> None:
        """Read the rows twice, as `read(what for)` gives them: to check and to record. What became of them goes to
        `results`: where bad ones are not to be skipped, these alone. Raises FileError, Refusal and RedisError."""
        shards = self._settings.redis.shards
        links = await self._links()
        await self._wait_for_claims()
        with closing(Rehearsal(self._redis, shards)) as rehearsal:
            with closing(read("checking")) as rows, Rows() as bad:
                checked = await self._check(rows, rehearsal, bad)
                if bad.count and not is_skipping:
                    for row in bad:
                        results.add(row)
                    self._summary.counts["refused"] = bad.count
                    return
            conversions = Conversions(self._redis, shards, links, self._clock, self._new_id, Counter())
            submit = rehearsal.submit if self._summary.dry_run else _patient(conversions.submit)
            self._summary.is_checked = True
            with closing(read("trying" if self._summary.dry_run else "recording")) as rows:
                await self._record(rows, submit, results)
            if results.count != checked and not self._summary.stopped:
                self._summary.stopped = "the file was changed meanwhile"

    async def _check(self, rows: Iterable[Row], rehearsal: Rehearsal, bad: Rows) -> int:
        """The number of rows. Raises Refusal where it cannot be known whether an old sale is recorded already."""
        count = 0
        for row in rows:
            count += 1
            try:
                report, _ = self._report(row)
                if report.is_dated_back:
                    await rehearsal.check_age(report)
            except FieldError as error:
                bad.add(row_refused(row, error))
            except NotRecorded as error:
                raise Refusal(f"the log does not say what is recorded already ({error})") from error
        return count

    async def _record(self, rows: Iterable[Row], submit: Submit, results: Rows) -> None:
        # Of an order, also of its several goals, one row at a time: what comes first in the file is decided first.
        locks = [asyncio.Lock() for _ in range(_LOCKS)]

        async def take(row: Row) -> dict[str, Any]:
            async with locks[crc32(row.params.get("order_id", "").encode()) % _LOCKS]:
                try:
                    return row_taken(row, *await submit(*self._report(row)))
                except FieldError as error:
                    return row_refused(row, error)

        try:
            async with aclosing(_in_order(rows, take)) as taken:
                async for result in taken:
                    results.add(result)
                    self._summary.counts[result["outcome"]] += 1
        except NotRecorded as error:
            self._summary.stopped = f"the log cannot take more now ({error})"
        except FileError as error:
            self._summary.stopped = f"the file was changed meanwhile ({error})"

    def _report(self, row: Row) -> tuple[Report, dict[str, str]]:
        """The report of a row, and what is kept with it: where it stood. Raises FieldError."""
        if row.error is not None:
            raise row.error
        program = self._summary.program
        if row.params.get("program", program) != program:
            raise FieldError(422, "program_other", f"this row is of another program than {program}", "program")
        settings = self._settings.conversions
        report = read_report(row.params, program, "import", None, self._clock(), settings, self._ids)
        place = {"file": self._summary.file, "line": str(row.line)}
        return report, with_what_is_left_out(place, row.params, report)

    async def _links(self) -> Links:
        """The program, as the tracker knows it. Raises Refusal where there is none."""
        program = self._summary.program
        data = await self._redis.hget(keys.PROJECTION, f"program:{program}")
        projection = Projection()
        projection.take_all("", [(f"program:{program}", data)] if data else [])
        links = Links(projection, self._settings.redis.shards)
        if links.merchant_of(program) is None:
            records = [
                orjson.loads(data) async for _, data in self._redis.hscan_iter(keys.PROJECTION, "program:*", 5000)
            ]
            known = ", ".join(sorted(record["id"] for record in records if record["status"] != "removed"))
            raise Refusal(f"unknown program {program!r}; known are: {known or 'none yet'}")
        return links

    async def _wait_for_claims(self) -> None:
        """No answer is right before it is known what was reported. Raises Refusal."""
        for shard in range(self._settings.redis.shards):
            for pause in (*PAUSES_SECONDS, None):
                if await self._redis.exists(keys.ready(shard)):
                    break
                if pause is None:
                    raise Refusal("what was reported so far is being rebuilt, or `lastcookie up` is not running")
                await asyncio.sleep(pause)


async def _in_order(rows: Iterable[Row], take: Callable[[Row], Awaitable[Any]]) -> AsyncGenerator[Any, None]:
    """What `take` makes of each row, in their order, with some on their way at once. Raises what reading raises."""
    waiting: deque[asyncio.Future[Any]] = deque()
    failure: FileError | None = None
    try:
        try:
            for row in rows:
                waiting.append(asyncio.ensure_future(take(row)))
                if len(waiting) >= _IN_FLIGHT_MAX:
                    yield await waiting.popleft()
        except FileError as error:  # what is on its way already is recorded, and said to be
            failure = error
        while waiting:
            yield await waiting.popleft()
        if failure:
            raise failure
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


def _patient(submit: Submit) -> Submit:
    """The same, tried several times where the log cannot take a report. Raises NotRecorded."""

    async def tried(report: Report, params: dict[str, str]) -> tuple[Outcome, str]:
        for pause in PAUSES_SECONDS:
            try:
                return await submit(report, params)
            except NotRecorded:
                await asyncio.sleep(pause)
        return await submit(report, params)

    return tried
