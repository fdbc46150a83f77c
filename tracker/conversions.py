"""Conversions: a good report is claimed and appended in one step, with the evidence that decides it.

Reports that come together go together, as clicks do (log.py): one reading of the claims of their orders and of the
touches of their visitors, then each is taken into its claim (reports.py, pure), then one script writes claims and
lines. The script leaves out a report whose claim has changed meanwhile; that one is taken up again. So a thousand
reports of one order at once make one sale. A shard has one batch in flight; what comes meanwhile makes the next.
HTTP is in api.py, the rows are in report_rows.py.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from redis.exceptions import RedisError

from schemas import keys
from schemas.durations import parse_duration
from schemas.reversals import reversal_content
from schemas.terms import terms_at
from tracker.links import Links
from tracker.report_fields import FieldError, check_age
from tracker.report_rows import case_line, conversion_line, problem_line, report_line, reversal_line
from tracker.reports import Claim, Outcome, Report, decode_claim, encode_claim, merge

SCRIPT = (Path(__file__).parent / "claim.lua").read_text()
_TRIES_MAX = 2000
_BATCH_MAX = 64
"""Reports that are recorded at once: the log server is busy for some 0.5 ms with them, and clicks wait behind it."""

_SCRIPT_BYTES_MAX = 524_288
"""What goes to the script at once, give or take one report: 64 of them are 200 KB, but one with 500 items is 2 MB."""

_FRESH_MS_MAX = 1000
"""A report that is read later than this after it came, out of a spool or behind a log server that hung, is not read
together with the touches of its time: some may be younger, others gone."""

Taken = tuple[Outcome, str]
"""What became of a report, and the conversion's id."""

Answer = Callable[[Taken | Exception], None]


class NotRecorded(Exception):
    """The log cannot take a conversion now: 503, try again."""


class _State(NamedTuple):
    """The touches of a visitor, and whether there may have been more."""

    touches: str
    has_gap: bool

    @classmethod
    def of(cls, touches: bytes | None, gap: bytes | None, ready: bytes | None) -> "_State":
        """Without the epoch the shard has just lost its state, and the gap's marker is still to come."""
        return cls(touches.decode("utf-8", "replace") if touches else "", gap is not None or ready is None)


_UNKNOWN = _State("", True)

_Visitor = tuple[str, str]
"""A program, and a visitor in it."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A report that is to be recorded, the key of its claim, and who wants to know; `elsewhere` are touches that other
    shards keep, as they were when it came: others of the batch may have read the same ones earlier."""

    report: Report
    params: Mapping[str, str]
    key: str
    answer: Answer
    elsewhere: dict[_Visitor, _State]

    def visitors(self) -> list[_Visitor]:
        named = (self.report.visitor, self.report.click_visitor)
        return [(self.report.program, visitor) for visitor in named if visitor]


class _Step(NamedTuple):
    """What a report makes of its claim: the claim before and after, lines as claim.lua wants them, what to answer."""

    waiting: _Waiting
    before: bytes
    after: bytes
    lines: tuple[bytes, bytes, bytes, bytes]
    taken: Taken


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
        self._waiting: list[list[_Waiting]] = [[] for _ in range(shards)]
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
        waiting = _Waiting(report, params, key, answer, {})
        if self._shards == 1 or all(self._shard_of(visitor) == shard for visitor in waiting.visitors()):
            self._queue(shard, waiting)
            return
        # Each report by itself: a shard that does not answer must not hold up those that do not need it.
        task = asyncio.get_running_loop().create_task(self._queue_with_touches(shard, waiting))
        self._on_their_way.add(task)
        task.add_done_callback(self._on_their_way.discard)

    def _shard_of(self, visitor: _Visitor) -> int:
        return keys.shard_of_visitor(visitor[1], self._shards)

    def _queue(self, shard: int, waiting: _Waiting) -> None:
        self._waiting[shard].append(waiting)
        if shard not in self._at_work:
            self._at_work[shard] = asyncio.get_running_loop().create_task(self._work(shard))

    async def _queue_with_touches(self, shard: int, waiting: _Waiting) -> None:
        visitors = [visitor for visitor in waiting.visitors() if self._shard_of(visitor) != shard]
        try:
            waiting.elsewhere = await self._read_touches(visitors)
        except Exception as error:
            self._counters[f"conversions_unrecorded:{type(error).__name__}"] += 1
            _tell(waiting, _unrecorded(error))
        else:
            self._queue(shard, waiting)

    async def _work(self, shard: int) -> None:
        """Batch after batch, until nothing waits."""
        waiting = self._waiting[shard]
        try:
            while waiting:
                batch = waiting[:_BATCH_MAX]
                del waiting[:_BATCH_MAX]
                await self._record(shard, batch)
        finally:
            del self._at_work[shard]

    async def _record(self, shard: int, batch: list[_Waiting]) -> None:
        """Record a batch and answer everyone in it."""
        failure: Exception = NotRecorded("too many reports of one order at once")
        try:
            for _ in range(_TRIES_MAX):
                await self._try(shard, batch)
                if not batch:
                    return
        except NotRecorded as error:
            failure = error
        except Exception as error:
            self._counters[f"conversions_unrecorded:{type(error).__name__}"] += len(batch)
            failure = error
        for waiting in batch:
            _tell(waiting, _unrecorded(failure))

    async def _try(self, shard: int, batch: list[_Waiting]) -> None:
        """One reading for all, and one writing unless they are large; leaves in the batch those whose claims somebody
        else has changed meanwhile."""
        claims, states = await self._read(shard, batch)
        read_at = self._clock()
        left = 0
        while len(batch) > left:
            steps = self._steps(batch, left, claims, states, read_at)
            if not steps:
                return
            answers = await self._script(
                keys=[keys.conversions(shard), keys.ready(shard), *(step.waiting.key for step in steps)],
                args=[word for step in steps for word in (step.before, step.after, *step.lines)],
            )
            if answers == -1:
                raise NotRecorded("claims are being rebuilt")
            refused = [step.waiting for step, answer in zip(steps, answers, strict=True) if answer != 1]
            batch[left : left + len(steps)] = refused
            left += len(refused)
            for step, answer in zip(steps, answers, strict=True):
                if answer == 1:
                    self._counters[f"reports:{step.waiting.report.source}:{step.taken[0]}"] += 1
                    _tell(step.waiting, step.taken)

    def _steps(
        self,
        batch: list[_Waiting],
        start: int,
        claims: dict[str, bytes],
        states: Mapping[_Visitor, _State],
        read_at: int,
    ) -> list[_Step]:
        """What the reports from `start` on make of their claims, as many as go to the script at once; who cannot be
        taken is told, and leaves the batch."""
        steps: list[_Step] = []
        size = 0
        for waiting in batch[start:]:
            try:
                step = self._step(waiting, claims[waiting.key], states, read_at)
            except Exception as error:  # whatever is wrong with one report, the others are recorded
                batch.remove(waiting)
                _tell(waiting, error)
                continue
            claims[waiting.key] = step.after  # for the next report of the same order
            steps.append(step)
            size += len(step.before) + len(step.after) + sum(map(len, step.lines))
            if size > _SCRIPT_BYTES_MAX:
                break
        return steps

    async def _read(self, shard: int, batch: Sequence[_Waiting]) -> tuple[dict[str, bytes], dict[_Visitor, _State]]:
        """What is known of the orders, b"" for nothing, and what this shard keeps of the visitors that reports name.
        Raises NotRecorded while nothing can be known yet."""
        orders = list(dict.fromkeys(waiting.key for waiting in batch))
        here = list({visitor for one in batch for visitor in one.visitors() if visitor not in one.elsewhere})
        touches = [keys.touches(shard, *visitor) for visitor in here]
        ready, gap, *found = await self._redis.mget(keys.ready(shard), keys.gap(shard), *orders, *touches)
        if ready is None:
            raise NotRecorded("claims are being rebuilt")
        claims = {order: claim or b"" for order, claim in zip(orders, found[: len(orders)], strict=True)}
        found = found[len(orders) :]
        return claims, {visitor: _State.of(touch, gap, ready) for visitor, touch in zip(here, found, strict=True)}

    async def _read_touches(self, visitors: Iterable[_Visitor]) -> dict[_Visitor, _State]:
        """What their shards keep of visitors."""
        of_shards: dict[int, list[_Visitor]] = {}
        for visitor in visitors:
            of_shards.setdefault(self._shard_of(visitor), []).append(visitor)
        states: dict[_Visitor, _State] = {}
        for shard, some in of_shards.items():
            touches = [keys.touches(shard, *visitor) for visitor in some]
            gap, ready, *found = await self._redis.mget(keys.gap(shard), keys.ready(shard), *touches)
            states |= {visitor: _State.of(touch, gap, ready) for visitor, touch in zip(some, found, strict=True)}
        return states

    def _step(self, waiting: _Waiting, before: bytes, states: Mapping[_Visitor, _State], read_at: int) -> _Step:
        """Take a report into its claim. Raises FieldError."""
        report = waiting.report
        known = decode_claim(before)
        known_ts = known.content.get(report.trust, {}).get("ts") if known else None
        check_age(report.content.get("ts"), report.oldest_ts, known_ts)
        merge_within_ms = self._merge_within_ms(report, known)
        claim, outcome = merge(known, report, merge_within_ms)
        after, decide, confirmed, version = before, b"", b"", b""
        if claim != known:
            if known is None or (
                report.received_at - known.first_received_at < merge_within_ms
                and claim.decision_input() != known.decision_input()
            ):
                claim, decide = _case(waiting, claim, states, read_at, is_first=known is None)
            elif claim.is_confirmed and not known.is_confirmed:
                confirmed = orjson.dumps([report.program, report.order_id])
            after = encode_claim(claim)
            version = conversion_line(report, claim, after)
        line = report_line(self._new_id(), report, claim, outcome, waiting.params)
        return _Step(waiting, before, after, (line, decide, confirmed, version), (outcome, claim.conversion_id))

    def _merge_within_ms(self, report: Report, known: Claim | None) -> int:
        versions = self._links.terms_of(report.program)
        if versions is None:
            return parse_duration("24h")
        return terms_at(versions, report.sale_ts if known is None else known.ts).merge_within

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
                keys=[keys.conversions(shard), keys.ready(shard), key], args=[b"", content, line, b"", b"", b""]
            )
        except (RedisError, OSError, TimeoutError) as error:
            raise NotRecorded(str(error)) from error
        if answers == -1:
            raise NotRecorded("claims are being rebuilt")
        if answers[0] not in (1, content):
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
    return {"report": asdict(report), "params": params}


def from_spool(record: dict[str, Any]) -> tuple[Report, dict[str, str]]:
    """A report out of the spool."""
    return Report(**record["report"]), record["params"]


def _tell(waiting: _Waiting, told: Taken | Exception) -> None:
    with suppress(Exception):  # one answer that cannot be given must not cost the others theirs
        waiting.answer(told)


def _unrecorded(failure: Exception) -> Exception:
    """What somebody is told whose report was not recorded; each his own, as an exception that is raised again keeps all
    frames. What is no failure of the log server's is a defect, and no reason to try again for ever."""
    if isinstance(failure, (NotRecorded, RedisError, OSError)):
        return NotRecorded(str(failure))
    defect = RuntimeError("the report could not be recorded")
    defect.__cause__ = failure
    return defect


def _case(
    waiting: _Waiting, claim: Claim, states: Mapping[_Visitor, _State], read_at: int, *, is_first: bool
) -> tuple[Claim, bytes]:
    """The claim with its time settled, and what the worker shall decide.

    Only touches of visitors that the report itself names are at hand. A sale that has had others was decided before,
    and is decided again from the tables: nobody need wait for these others' shards."""
    report, named = waiting.report, waiting.visitors()
    is_fresh = read_at - report.received_at <= _FRESH_MS_MAX
    touches, has_gap, newest = {}, not is_fresh, 0
    for visitor in claim.visitors():
        key = report.program, visitor
        state = (waiting.elsewhere.get(key) or states[key]) if key in named else _UNKNOWN
        touches[visitor] = state.touches
        has_gap = has_gap or state.has_gap
        newest = max(newest, _newest_ts(state.touches))
    if is_first and is_fresh and claim.ts == report.received_at and newest > claim.ts:
        # Several clocks: a sale is not before the click that it was read together with.
        claim = replace(claim, ts=newest)
    return claim, case_line(report, claim, touches, has_gap)


def _newest_ts(state: str) -> int:
    """The time of the last touch of a state: its place is fixed from the end (append_clicks.lua)."""
    return int(state[-46:-33]) if state else 0
