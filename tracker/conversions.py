"""Conversions: a good report is claimed and appended in one step, with the evidence that decides it.

Reports that come together go together, as clicks do (shard.py): each is taken into a claim of its order as if it were
the first (report_batch.py, pure), then one script writes claims and lines, with the touches of the visitors. Nothing is
written of an order that has been claimed before: the script says what its claim is, and its reports are taken up again
upon that. So a thousand reports of one order at once make one sale. A shard has one batch in flight; what comes
meanwhile is the next. HTTP is in api.py, the rows are in report_rows.py.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from schemas import keys
from schemas.reversals import reversal_content
from tracker.links import Links
from tracker.report_batch import Steps, Writing, tell, tell_all
from tracker.report_fields import FieldError
from tracker.report_rows import problem_line, reversal_line
from tracker.report_steps import Answer, State, Taken, Visitor, Waiting
from tracker.reports import Report, decode_claim

SCRIPT = (Path(__file__).parent / "claim.lua").read_text()
_TRIES_MAX = 2000
_BATCH_MAX = 64
"""Reports that are recorded at once: the log server is busy for some 0.5 ms with them, and clicks wait behind it."""


class NotRecorded(Exception):
    """The log cannot take a conversion now: 503, try again."""


@dataclass
class _Known:
    """What tries to record a batch have found out for the next one."""

    claims: dict[str, bytes]
    """Of orders that are not thought to be new."""
    most: int
    """Reports that one call takes."""
    newest: dict[Visitor, int] = field(default_factory=dict)
    """Times of last touches, where they are later than a sale."""


class Conversions:
    """Records reports for one worker. `redis` is redis-py's asynchronous client, or what speaks like it (calls.py);
    `new_id()` gives a fresh id; `clock` ms."""

    def __init__(
        self,
        redis: Any,
        shards: int,
        links: Links,
        clock: Callable[[], int],
        new_id: Callable[[], str],
        counters: Counter[str],
    ) -> None:
        self._redis = redis
        self._shards = shards
        self._links = links
        self._clock = clock
        self._new_id = new_id
        self._counters = counters
        self._script = redis.register_script(SCRIPT)
        self._waiting: list[list[Waiting]] = [[] for _ in range(shards)]
        self._at_work: dict[int, asyncio.Task[None]] = {}
        self._on_their_way: set[asyncio.Task[None]] = set()

    async def submit(self, report: Report, params: Mapping[str, str]) -> Taken:
        """Record a report; its outcome and the conversion's id. Raises NotRecorded, and FieldError (422) where a sale
        that is not known yet is dated too far back."""
        answered: asyncio.Future[Taken] = asyncio.get_running_loop().create_future()

        def answer(told: Taken | Exception) -> None:
            if answered.done():  # given up
                return
            if isinstance(told, Exception):
                answered.set_exception(told)
            else:
                answered.set_result(told)

        self.take(report, params, answer)
        return await answered

    def take(self, report: Report, params: Mapping[str, str], answer: Answer) -> None:
        """Record a report together with those that come at the same time; `answer` gets what `submit` returns, or what
        it raises."""
        shard = keys.shard_of_order(report.program, report.order_id, report.goal, self._shards)
        key = keys.claim(shard, report.program, report.order_id, report.goal)
        waiting = Waiting(report, params, key, answer)
        if self._shards == 1 or all(self._shard_of(visitor) == shard for visitor in waiting.visitors()):
            self._queue(shard, waiting)
            return
        # Each report by itself: a shard that does not answer must not hold up those that do not need it.
        task = asyncio.get_running_loop().create_task(self._queue_with_touches(shard, waiting))
        self._on_their_way.add(task)
        task.add_done_callback(self._on_their_way.discard)

    def _shard_of(self, visitor: Visitor) -> int:
        return keys.shard_of_visitor(visitor[1], self._shards)

    def _queue(self, shard: int, waiting: Waiting) -> None:
        self._waiting[shard].append(waiting)
        if shard not in self._at_work:
            self._at_work[shard] = asyncio.get_running_loop().create_task(self._work(shard))

    async def _queue_with_touches(self, shard: int, waiting: Waiting) -> None:
        visitors = [visitor for visitor in waiting.visitors() if self._shard_of(visitor) != shard]
        try:
            waiting.elsewhere = await self._read_touches(visitors)
        except Exception as error:
            self._counters[f"conversions_unrecorded:{type(error).__name__}"] += 1
            tell(waiting, _unrecorded(error))
        else:
            self._queue(shard, waiting)

    async def _work(self, shard: int) -> None:
        """Batch after batch, until nothing waits."""
        waiting = self._waiting[shard]
        try:
            while waiting:
                count = 0
                while count < len(waiting) < _BATCH_MAX:  # what comes in the next turn of the loop goes with them
                    count = len(waiting)
                    await asyncio.sleep(0)
                batch = waiting[:_BATCH_MAX]
                del waiting[:_BATCH_MAX]
                await self._record(shard, batch)
        finally:
            del self._at_work[shard]

    async def _record(self, shard: int, batch: list[Waiting]) -> None:
        """Record a batch and answer everyone in it."""
        failure: Exception = NotRecorded(f"not recorded in {_TRIES_MAX} tries: others report the same orders")
        try:
            known = _Known(await self._old_claims(shard, batch), len(batch))
            for _ in range(_TRIES_MAX):
                await self._try(shard, batch, known)
                if not batch:
                    return
        except NotRecorded as error:
            failure = error
        except Exception as error:
            self._counters[f"conversions_unrecorded:{type(error).__name__}"] += len(batch)
            failure = error
        for waiting in batch:
            tell(waiting, _unrecorded(failure))

    async def _try(self, shard: int, batch: list[Waiting], known: _Known) -> None:
        """One call for as many as it takes, fewer if they are large; leaves in the batch what is not recorded."""
        steps = Steps.of(batch[: known.most], known.claims, known.newest, self._clock(), self._links, self._new_id)
        for waiting, error in steps.refused:
            batch.remove(waiting)
            tell(waiting, error)
        made = steps.made
        if not made:
            return
        writing = Writing(shard, made)
        answers = await self._script(keys=writing.keys, args=writing.arguments)
        if answers == -1:
            raise NotRecorded("claims are being rebuilt")
        if answers == -2:  # their visitors have many touches
            writing.take_back(known.claims)
            known.most = len(made) // 2
            return
        left = set() if answers == 1 else writing.not_recorded(answers, known.claims, known.newest)
        batch[: len(made)] = [one.waiting for one in made if one.waiting.key in left]
        tell_all([one for one in made if one.waiting.key not in left], self._counters)

    async def _old_claims(self, shard: int, batch: Iterable[Waiting]) -> dict[str, bytes]:
        """Of those orders whose reports are dated too far back, unless they are known: these are not thought to be new.
        Raises NotRecorded while nothing can be known."""
        asked = [waiting.key for waiting in batch if waiting.report.is_dated_back]
        if not asked:
            return {}
        ready, *found = await self._redis.mget(keys.ready(shard), *asked)
        if ready is None:
            raise NotRecorded("claims are being rebuilt")
        return {key: claim or b"" for key, claim in zip(asked, found, strict=True)}

    async def _read_touches(self, visitors: Iterable[Visitor]) -> dict[Visitor, State]:
        """What their shards keep of visitors."""
        of_shards: dict[int, list[Visitor]] = {}
        for visitor in visitors:
            of_shards.setdefault(self._shard_of(visitor), []).append(visitor)
        states: dict[Visitor, State] = {}
        for shard, some in of_shards.items():
            touches = [keys.touches(shard, *visitor) for visitor in some]
            gap, ready, *found = await self._redis.mget(keys.gap(shard), keys.ready(shard), *touches)
            states |= {visitor: State.of(touch, gap, ready) for visitor, touch in zip(some, found, strict=True)}
        return states

    async def reverse(self, reversal: dict[str, Any], source: str) -> str:
        """Record a reversal; its id. The same id and content again gets the same answer.

        Raises FieldError (404 unknown sale, 409 other content under the same id) and NotRecorded.
        """
        program, order_id, goal = reversal["program"], reversal["order_id"], reversal["goal"]
        shard = keys.shard_of_order(program, order_id, goal, self._shards)
        order = keys.claim(shard, program, order_id, goal)
        key = keys.reversal(shard, program, order_id, goal, reversal["reversal_id"])
        content = reversal_content(**reversal["content"])
        try:
            known, ready = await self._redis.mget(order, keys.ready(shard))
            if ready is None:
                raise NotRecorded("claims are being rebuilt")
            claim = decode_claim(known or b"")
            if claim is None:
                raise FieldError(404, "conversion_unknown", "no such sale has been reported", "order_id")
            line = reversal_line(self._new_id(), claim, reversal, source, self._clock())
            answers = await self._script(
                keys=[keys.conversions(shard), keys.ready(shard), keys.gap(shard), key],
                args=[b"1", line, *([b""] * 8), content],
            )
        except (RedisError, OSError, TimeoutError) as error:
            raise NotRecorded(str(error)) from error
        if answers == -1:
            raise NotRecorded("claims are being rebuilt")
        if answers not in (1, [content]):
            raise FieldError(409, "reversal_conflict", "this reversal_id was used with other content", "reversal_id")
        return claim.conversion_id

    async def is_reported(self, program: str, order_id: str, goal: str) -> bool:
        """Whether a sale has been reported, be it in the tables yet or not. Raises what the client raises."""
        shard = keys.shard_of_order(program, order_id, goal, self._shards)
        return bool(await self._redis.exists(keys.claim(shard, program, order_id, goal)))

    async def record_problem(self, source: str, params: dict[str, str], error: FieldError) -> None:
        """Keep a browser's report that could not be taken, for the merchant to see. Best effort, as it is no sale."""
        line = problem_line(self._new_id(), source, params, error, self._clock())
        self._counters[f"reports:{source}:refused"] += 1
        try:
            await self._redis.xadd(keys.conversions(0), {"reports": line})
        except (RedisError, OSError, TimeoutError):
            self._counters["problems_unrecorded"] += 1


def spooled(report: Report, params: Mapping[str, str]) -> dict[str, Any]:
    """A report as the spool keeps it."""
    return {"report": report._asdict(), "params": params}


def from_spool(record: dict[str, Any]) -> tuple[Report, dict[str, str]]:
    """A report out of the spool."""
    return Report(**record["report"]), record["params"]


def _unrecorded(failure: Exception) -> Exception:
    """What somebody is told whose report was not recorded; each his own, as an exception that is raised again keeps all
    frames. What is no failure of the log server's is a defect, and no reason to try again for ever."""
    if isinstance(failure, (NotRecorded, RedisError, OSError)):
        return NotRecorded(str(failure))
    defect = RuntimeError("the report could not be recorded")
    defect.__cause__ = failure
    return defect
