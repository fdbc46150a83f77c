"""Forgetting a person, on the private port: one at a time, told line by line, and safe to run again.

In this order: the spools are waited for; his touches go; what is in the log is decided and loaded; his sales' claims
lose who bought, so that a report that is repeated decides nothing anew; what was reported meanwhile is decided and
loaded too; the tables are changed (forget_tables.py); the append-only file is written anew; log files are blotted out.
What he does after his touches went is a new beginning, and stays. Called by admin.py.
"""

import itertools
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import orjson

from attribution.replay_source import session
from console.forget_log import Log, blot_out, needles, wait_for_spools
from console.forget_tables import Person, Tables, Trace
from console.replays import Refused
from console.tables import Tables as AllTables
from schemas import keys
from schemas.failpoints import failpoint
from schemas.logs import logger
from schemas.settings import Settings

_ID_MAX = 255
_ROUNDS_MAX = 5
_OLD_DATA_SECONDS = 120.0


class Forgets:
    """Forgets people of one instance. `new_id` gives an id that was never given before."""

    def __init__(
        self, settings: Settings, redis: Any, tables: AllTables, running: threading.Lock, new_id: Callable[[], str]
    ) -> None:
        self._settings = settings
        self._redis = redis
        self._tables = tables
        self._running = running
        self._new_id = new_id

    def open(self, body: bytes) -> Iterator[bytes]:
        """Begin; the lines that say how far it is, to be closed by who reads them. Raises Refused."""
        person, is_rehearsal = _read(body)
        if not self._running.acquire(blocking=False):
            raise Refused(429, "busy", "another backup, rebuild or forgetting is running; try again")
        lines = self._lines(person, is_rehearsal)
        next(lines)  # started, it gives back what it holds also when it is dropped
        return lines

    def _lines(self, person: Person, is_rehearsal: bool) -> Iterator[bytes]:
        try:
            yield b""
            yield from self._rehearse(person) if is_rehearsal else self._forget(person)
        except Refused as refused:
            yield _line("error", message=f"{refused.code}: {refused}")
        except Exception as error:
            logger().error("forgetting failed", kind=type(error).__name__)  # its text may name the person
            yield _line("error", message=f"{type(error).__name__}: run it again")
        finally:
            self._running.release()

    def _open_tables(self, person: Person) -> Tables:
        limits = self._settings.limits
        return Tables(self._tables.client(**session(limits.sql_memory, limits.sql_threads)), person)

    def _rehearse(self, person: Person) -> Iterator[bytes]:
        log = Log(self._redis, self._settings.redis.shards)
        tables = self._open_tables(_until(person, log.now()))
        try:
            trace = tables.find()
            yield self._end(person, trace, tables.count(), "", is_rehearsal=True)
        finally:
            tables.close()

    def _forget(self, person: Person) -> Iterator[bytes]:
        settings = self._settings
        log = Log(self._redis, settings.redis.shards)
        tables = self._open_tables(_until(person, log.now()))
        try:
            yield _line("progress", step="spool")
            spools = settings.data.dir / "spool"
            wait_for_spools(spools, needles([person.visitor] if person.visitor else [], (), person.customer))
            log.empty()
            visitors = tables.find().visitors
            wait_for_spools(spools, needles(visitors, (), ""))
            touches = log.forget_touches(visitors, person.program)
            failpoint("forget_after_touches")
            tables.close()
            tables = self._open_tables(_until(person, log.now() + 1))
            yield _line("progress", step="log")
            trace = self._settle(log, tables)
            counts = tables.count() | {"touches": touches}
            for step in tables.forget(trace):
                yield _line("progress", step=step)
            problem = log.rewrite()
            yield _line("progress", step="append-only file")
            names = needles(trace.visitors, trace.click_ids, person.customer)
            folder = settings.data.dir
            written = itertools.chain((folder / "log").glob("*"), (folder / "spool" / "damaged").glob("*"))
            counts["log lines"] = blot_out(written, names)
            shutil.rmtree(folder / "clickhouse" / "shadow", ignore_errors=True)  # of a backup that died
            if not tables.remove_old_data(time.monotonic, _OLD_DATA_SECONDS):
                problem = problem or "the tables have not removed their old data yet: they will, within minutes"
            tables.journal(self._new_id(), log.now(), trace)
            logger().info("a person was forgotten", clicks=len(trace.click_ids), sales=len(trace.sales))
            yield self._end(person, trace, counts, problem)
        finally:
            tables.close()

    def _settle(self, log: Log, tables: Tables) -> Trace:
        """All that is his in the tables, decided, and no claim left that could decide it again. Raises Refused."""
        for _ in range(_ROUNDS_MAX):
            log.empty()
            trace = tables.find()
            if not log.forget_claims(trace.sales):
                return trace
        raise Refused(503, "person_active", "his sales are being reported all the time; try again")

    def _end(
        self, person: Person, trace: Trace, counts: dict[str, int], problem: str, *, is_rehearsal: bool = False
    ) -> bytes:
        found = {"visitors": len(trace.visitors), "sales": len(trace.sales), **counts}
        named = self._memberships(person, trace)
        return _line("end", found=found, problem=problem, memberships=named, dry_run=is_rehearsal)

    def _memberships(self, person: Person, trace: Trace) -> list[str]:
        """Affiliates of whom a manager has said that this is how they buy: that stands in what he applied."""
        ids = {*trace.visitors, person.customer} - {""}
        found = []
        for key, data in self._redis.hscan_iter(keys.PROJECTION, match="membership:*", count=5000):
            record = orjson.loads(data)
            if ids & {*record.get("customers", ()), *record.get("visitors", ())}:
                found.append(key.decode().partition(":")[2])
        return sorted(found)


def _read(body: bytes) -> tuple[Person, bool]:
    try:
        raw = orjson.loads(body)
        values = {name: raw.get(name) or "" for name in ("visitor", "customer", "program")}
        is_rehearsal = raw.get("dry_run", False)
    except (orjson.JSONDecodeError, AttributeError):
        raise Refused(400, "question_malformed", "the body must be an object") from None
    for name, value in values.items():
        if not isinstance(value, str) or len(value) > _ID_MAX:
            raise Refused(400, f"{name}_malformed", f"{name} must be text of at most {_ID_MAX} characters", name)
    if bool(values["visitor"]) == bool(values["customer"]):
        raise Refused(400, "person_missing", "one of visitor and customer must say who", "visitor")
    if not isinstance(is_rehearsal, bool):
        raise Refused(400, "dry_run_malformed", "dry_run must be true or false", "dry_run")
    return Person(values["visitor"], values["customer"], values["program"]), is_rehearsal


def _until(person: Person, until: int) -> Person:
    return replace(person, until=until)


def _line(section: str, **values: Any) -> bytes:
    return orjson.dumps({"section": section, **values}) + b"\n"
