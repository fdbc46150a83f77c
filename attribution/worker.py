"""The worker: decides each sale as it is reported, once, with what was known then.

It follows the stream of conversions. Most sales carry complete evidence and are decided from it at once; the others
wait until the tables hold everything that was in the log when the sale was taken up, and are decided from there.
Decisions go back into the log together with the worker's position, by one script: a crash repeats nothing and skips
nothing. The rule itself is credit.py.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from attribution.case import Case, complete_touches, credit_line, read_cases
from attribution.catalog import Catalog
from attribution.credit import Touch, decide, find_visitors
from attribution.goals import Goals, Order, by_program
from attribution.known import Known
from attribution.stages import Staged, follow
from attribution.store import CreditInForce, Store
from schemas import keys
from schemas.failpoints import failpoint
from schemas.forgotten import FORGOTTEN
from schemas.lease import Lease, LeaseLost
from schemas.log_server import Restarted, known_run
from schemas.logs import logger
from schemas.projection import MARK
from schemas.terms import terms_at

ROLE = "worker"
_RECORD = (Path(__file__).parent / "record_credits.lua").read_text()
_ENTRIES_MAX = 500
_ENTRIES_AT_ONCE = 50
"""Read by one call: an entry has the lines of up to 64 reports, over 1 KB each, and the log server does nothing else
meanwhile."""

_SALES_MAX = 500
"""Sales that are decided or confirmed at once: the lease is renewed in between."""

_WAIT_SECONDS_MAX = 10.0
_LAST = 2**64
Entry = tuple[bytes, dict[bytes, bytes]]
"""Of the stream: its id and its fields."""

OnDecided = Callable[[str, float], None]
"""Told of every decision: its method, and the seconds since the sale was received."""


class TablesBehind(Exception):
    """The loader has not caught up in time; the batch is taken up again."""


class Worker:
    """Decides while it holds the lease. `clock` gives ms."""

    def __init__(
        self,
        redis: Any,
        store: Store,
        catalog: Catalog,
        lease: Lease,
        shards: int,
        clock: Callable[[], int],
        on_decided: OnDecided,
        counters: Counter[str] | None = None,
    ) -> None:
        self._redis = redis
        self._store = store
        self._catalog = catalog
        self._lease = lease
        self._shards = shards
        self._clock = clock
        self._on_decided = on_decided
        self.counters = Counter() if counters is None else counters
        self._record = redis.register_script(_RECORD)
        self._last_seq = 0
        self._runs: dict[keys.Place, str] = {}
        self._known = Known(store, catalog)
        self._goals = Goals(store)

    def start(self) -> bool:
        """Take the role; True when held. Decisions go on behind the last position given out."""
        self._runs = {place: known_run(self._redis, place) for place in keys.places(self._shards)}
        if not self._lease.acquire():
            return False
        self._goals.reload(self._unloaded_goals())
        self._last_seq = max(self._last_seq, self._store.last_decision())
        for shard in range(self._shards):
            last = self._redis.xrevrange(keys.credits(shard), count=1)
            if last:
                line = last[0][1][b"credit_versions"].split(b"\n")[-1]
                self._last_seq = max(self._last_seq, int(orjson.loads(line)["decision_seq"]))
        return True

    def work_once(self) -> int:
        """Decide what is there, at most one batch a shard; the number of entries. Raises LeaseLost, TablesBehind and
        what the stores raise."""
        self._lease.renew()
        done = 0
        for shard in range(self._shards):
            stream = keys.conversions(shard)
            position, unsure = self._redis.hmget(keys.positions(stream), ROLE, keys.UNSURE)
            entries = self._next_entries(stream, position or b"0-0")
            if entries:
                if self._runs[shard] != known_run(self._redis, shard):  # the client has connected to it anew, unsaid
                    raise Restarted("the log server has started anew")
                is_sure = position is not None and keys.entry_order(entries[0][0]) > keys.entry_order(unsure or "0-0")
                self._follow_entities()
                self._decide_entries(shard, entries, is_sure=is_sure)
                done += len(entries)
        return done

    def _next_entries(self, stream: str, position: bytes) -> list[Entry]:
        """Those behind the position, with no more sales than are decided at once; one at least where there is one."""
        found: list[Entry] = []
        sales = 0
        while True:
            page = self._redis.xrange(stream, f"({position.decode()}", count=_ENTRIES_AT_ONCE)
            for entry in page:
                sales += _sales_in(entry)
                if sales > _SALES_MAX and found:
                    return found
                found.append(entry)
            if len(page) < _ENTRIES_AT_ONCE or len(found) >= _ENTRIES_MAX:
                return found
            position = page[-1][0]

    def finish(self) -> None:
        """Give the role back."""
        self._lease.release()

    def _follow_entities(self) -> None:
        """Bring the catalog up to the present: a sale is judged by the terms that were in force when it came."""
        projection = self._catalog.projection
        # At the start not from the stream, which may hold a million links of the last hour.
        while projection.position and (
            entries := self._redis.xrange(keys.ENTITIES, f"({projection.stream_id}", count=100)
        ):
            if not projection.continues(entries[0][1]):
                break
            for stream_id, fields in entries:
                projection.take_entry(stream_id.decode(), fields)
            self._catalog.changed()
        mark = (self._redis.hget(keys.PROJECTION, MARK) or b"0 0-0").decode()
        if int(mark.partition(" ")[0]) > projection.position:
            fields = self._redis.hscan_iter(keys.PROJECTION, match=keys.ALL_BUT_LINKS, count=5000)
            records = [(key.decode(), data) for key, data in fields]
            projection.take_all(mark, ((key, data) for key, data in records if key != MARK))
            self._catalog.changed()

    def _decide_entries(self, shard: int, entries: Sequence[Entry], *, is_sure: bool) -> None:
        """Decide a batch and record it. Unless `is_sure`, some of it may have been decided before."""
        cases = [case for _, fields in entries for case in read_cases(fields)]
        late = list(_lines(entries, b"late"))
        confirmed = [_order(line) for line in _lines(entries, b"confirmed")]
        for case in cases:
            self._goals.note(case.program, case.sale.goal)
        again = [order for order in confirmed if self._has_stages(order[0])]
        staged = [case for case in cases if self._is_staged(case)]
        touches = [
            None
            if self._catalog.has_gap(case.program, case.sale.ts)
            else complete_touches(case, self._catalog.terms(case.program))
            for case in cases
        ]
        early = self._redis.smembers(keys.early(shard)) if cases else set()
        if late or not is_sure:  # what the edge had at hand is not all, or not the first word
            touches = [None] * len(cases)
        if early:
            pairs = zip(cases, touches, strict=True)
            touches = [None if case.conversion_id.encode() in early else found for case, found in pairs]
        of_late: list[Case] = []
        if late or again or staged or any(found is None for found in touches):
            self._wait_for_tables()
            of_late = self._cases_of_late_clicks(late, {case.conversion_id for case in cases})
            cases += of_late
            again += [case.order for case in cases if case.is_again and self._has_stages(case.program)]
            self._goals.read({*again, *(case.order for case in cases if self._is_staged(case))})
            cases += self._cases_of_stages(again, cases)
            touches += [None] * (len(cases) - len(touches))
        at_hand = sum(found is not None for found in touches)
        self.counters["sales_by_evidence_at_hand"] += at_hand
        self.counters["sales_by_tables"] += len(touches) - at_hand
        self._known.begin([case for case, found in zip(cases, touches, strict=True) if found is None])
        for case in of_late:
            if self._known.in_force(case) is None:  # its own entry is still to come
                self._redis.sadd(keys.early(self._shard(case)), case.conversion_id)
        lines = []
        for case, found in zip(cases, touches, strict=True):
            line = self._decide(case, found)
            if line is not None:
                lines.append(line)
        failpoint("worker_before_record")
        done = self._record(
            keys=[keys.fence(shard, ROLE), keys.positions(keys.conversions(shard)), keys.credits(shard)],
            args=[self._lease.number, entries[-1][0], b"\n".join(lines)],
        )
        if not done:
            raise LeaseLost(ROLE)
        if decided := early & {case.conversion_id.encode() for case in cases}:
            self._redis.srem(keys.early(shard), *decided)

    def _shard(self, case: Case) -> int:
        return keys.shard_of_order(case.program, case.order_id, case.sale.goal, self._shards)

    def _decide(self, case: Case, at_hand: list[Touch] | None) -> bytes | None:
        """The decision as a line, or None where it stays as it was. `at_hand` are the touches if they are all that can
        win, else the tables have been asked."""
        versions = self._catalog.terms(case.program)
        touches = self._known.touches(case) if at_hand is None else at_hand
        identities = self._known.identities(case) if at_hand is None else {}
        affiliates = self._catalog.affiliates(case.program)
        alone = decide(
            case.sale,
            touches,
            versions,
            affiliates,
            self._catalog.coupons(case.program),
            identities,
            self._known.credited(case) if at_hand is None else [],
        )
        terms = terms_at(versions, case.sale.ts)
        staged = Staged(alone, case.is_disputed)
        if self._is_staged(case):
            visitors = find_visitors(case.sale, touches, terms, identities)
            own = self._goals.of(case).stage
            stages = self._goals.before(case)
            staged = follow(alone, case.sale, stages, terms, affiliates, visitors, own.is_confirmed, case.is_disputed)
        credit = staged.credit
        before = self._known.in_force(case)
        if FORGOTTEN in case.sale.visitors or (before is not None and before.click_id == FORGOTTEN):
            return None  # what it was decided from is gone
        replaces = before.version if before is not None else 0
        decided = credit.affiliate or "", credit.click_id or "", credit.method
        after = CreditInForce(replaces + 1, *decided, staged.is_disputed, staged.follows)
        if before is not None and after[1:] == before[1:]:
            return None
        now = self._clock()
        self._last_seq = max(self._last_seq + 1, now * 1000)
        self._known.remember(case, credit, after)
        if self._has_stages(case.program):
            self._goals.remember(case, staged, self._last_seq)
        self._on_decided(credit.method, (now - case.received_at) / 1000)
        return credit_line(case, staged, after.version, replaces, self._last_seq, now, terms)

    def _cases_of_late_clicks(self, lines: Sequence[bytes], known: set[str]) -> list[Case]:
        """The sales that clicks out of a spool may change: their visitors' sales from the first such click on."""
        visitors: dict[str, set[str]] = {}
        since: dict[str, int] = {}
        for line in lines:
            click = orjson.loads(line)
            program = click["program"]
            visitors.setdefault(program, set()).add(click["visitor"])
            since[program] = min(since.get(program, int(click["ts"])), int(click["ts"]))
        return [
            Case.of_stored(program, sale, self._clock())
            for program, found in visitors.items()
            for sale in self._store.sales_of_visitors(program, found, since[program])
            if sale["conversion_id"] not in known
        ]

    def _has_stages(self, program: str) -> bool:
        """Whether goals of the program may follow others."""
        versions = self._catalog.terms(program)
        return self._goals.are_several(program) and any(terms.goals_judged == "first" for terms in versions)

    def _is_staged(self, case: Case) -> bool:
        """Whether another goal of its order may say who gets this sale."""
        if not self._goals.are_several(case.program):  # of most programs there is one goal
            return False
        return terms_at(self._catalog.terms(case.program), case.sale.ts).goals_judged == "first"

    def _cases_of_stages(self, orders: Iterable[Order], batch: Sequence[Case]) -> list[Case]:
        """The goals of orders of which one is decided again or confirmed: what follows it must follow. In the order
        of their decisions; one that is neither decided yet nor in this batch comes in its turn."""
        found = []
        places: dict[str, int] = {}
        for place, case in enumerate(batch):
            places.setdefault(case.conversion_id, place)
        for program, order_ids in by_program(orders).items():
            sales = self._store.sales_of_orders(program, order_ids)
            cases = [Case.of_stored(program, sale, self._clock()) for sale in sales]
            counts = Counter(case.order_id for case in cases)
            found += [case for case in cases if counts[case.order_id] > 1 and self._is_staged(case)]
        found = [case for case in found if self._goals.of(case).first_seq or case.conversion_id in places]
        return sorted(
            found, key=lambda case: (self._goals.of(case).first_seq or _LAST, places.get(case.conversion_id, 0))
        )

    def _unloaded_goals(self) -> list[tuple[str, str]]:
        """Program and goal of each decision that the loader may not have taken into the tables."""
        goals = []
        for shard in range(self._shards):
            stream = keys.credits(shard)
            position = (self._redis.hget(keys.positions(stream), "loader") or b"0-0").decode()
            while entries := self._redis.xrange(stream, f"({position}", count=_ENTRIES_MAX):
                position = entries[-1][0].decode()
                for _, fields in entries:
                    lines = [orjson.loads(line) for line in fields[b"credit_versions"].split(b"\n")]
                    goals += [(line["program"], line["goal"]) for line in lines]
        return goals

    def _wait_for_tables(self) -> None:
        """Until the tables hold all that is in the log now. Raises TablesBehind."""
        ends = {}
        for shard in range(self._shards):
            for stream in (keys.clicks(shard), keys.conversions(shard), keys.credits(shard)):
                last = self._redis.xrevrange(stream, count=1)
                if last:
                    ends[stream] = keys.entry_order(last[0][0])
        deadline = time.monotonic() + _WAIT_SECONDS_MAX
        while ends:
            for stream, end in list(ends.items()):
                if keys.entry_order(self._redis.hget(keys.positions(stream), "loader") or b"0-0") >= end:
                    del ends[stream]
            if ends:
                if time.monotonic() > deadline:
                    raise TablesBehind(", ".join(ends))
                self._lease.renew()
                time.sleep(0.01)


def run(worker: Worker, should_stop: Callable[[], bool], round_seconds: float = 0.05) -> None:
    """Decide until told to stop, in rounds that take so long at least: seven calls to the log server go with each, for
    one sale as for hundreds. Survives the loss of either store and of the lease."""
    held = False
    while not should_stop():
        started = time.monotonic()
        try:
            held = held or worker.start()
            if held:
                worker.work_once()
        except LeaseLost:
            held = False
        except Exception as error:
            held = False
            logger().error("deciding failed, will try again", error=str(error)[:500], kind=type(error).__name__)
            time.sleep(0.5)
        if held:
            time.sleep(max(0.0, started + round_seconds - time.monotonic()))
        else:
            time.sleep(0.2)
    if held:
        with suppress(Exception):  # then it expires
            worker.finish()


def _sales_in(entry: Entry) -> int:
    """How many are to be decided or looked at again."""
    named = [*_lines([entry], b"decide"), *_lines([entry], b"confirmed")]
    return len(named) - named.count(keys.NOT_DECIDED)


def _lines(entries: Sequence[Entry], field: bytes) -> Iterator[bytes]:
    """The lines of that field of all entries, in order."""
    return (line for _, fields in entries if field in fields for line in fields[field].split(b"\n"))


def _order(line: bytes) -> Order:
    program, order_id = orjson.loads(line)
    return program, order_id
