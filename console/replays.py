"""Replays on the private port: a question in, the evidence of a period out, line by line; the asker decides.

Reading is ClickHouse's work, in a client of its own; deciding a million sales here would stand in the way of loader
and worker, so the command line does it. One replay at a time: it may need as much memory as a person's query. Called
by admin.py.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import orjson
from redis.exceptions import RedisError

from attribution.replay_source import Question, Source, UnknownProgram, session
from console.tables import Tables
from schemas import keys
from schemas.settings import Settings
from schemas.terms import TermsError
from schemas.what_if import changed_keys

_LOOKS_MAX = 500
_LOOK_AGAIN_SECONDS = 0.02


class Refused(Exception):
    """A question that gets no answer: HTTP status, code, message and parameter."""

    def __init__(self, status: int, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param


class Replays:
    """Answers replay questions of one instance."""

    def __init__(self, settings: Settings, redis: Any, tables: Tables) -> None:
        self._settings = settings
        self._redis = redis
        self._tables = tables
        self._running = threading.Lock()

    def open(self, body: bytes, now: int) -> Iterator[bytes]:
        """The lines that answer a question, to be closed by who reads them. Raises Refused."""
        question = _read(body, now)
        if not self._running.acquire(blocking=False):
            raise Refused(429, "too_many_replays", "another replay is running")
        try:
            with suppress(RedisError, OSError):  # without the log the tables are all there is
                _wait_for_tables(self._redis, self._settings.redis.shards)
            limits = self._settings.limits
            client = self._tables.client(**session(limits.sql_memory, limits.sql_threads))
            source = Source(client, question)
            try:
                source.open()
            except UnknownProgram as error:
                client.close()
                raise Refused(404, "program_unknown", str(error), "program") from error
        except BaseException:
            self._running.release()
            raise
        lines = self._lines(source, client)
        next(lines)  # started, it gives back what it holds also when it is dropped
        return lines

    def _lines(self, source: Source, client: Any) -> Iterator[bytes]:
        try:
            yield b""
            for text in source.lines():
                yield text.encode()
        except Exception as error:
            yield orjson.dumps({"section": "error", "message": str(error)[:2000]}) + b"\n"
        finally:
            client.close()
            self._running.release()


def _read(body: bytes, now: int) -> Question:
    try:
        raw = orjson.loads(body)
        program, changes = raw.get("program"), raw.get("set")
        times = {name: raw.get(name) for name in ("from", "to", "as_of")}
    except (orjson.JSONDecodeError, AttributeError):
        raise Refused(400, "question_malformed", "the body must be an object") from None
    for name, value in times.items():
        if value is not None and type(value) is not int:
            raise Refused(400, f"{name}_malformed", f"{name} must be a number of milliseconds", name)
    if program is not None and not isinstance(program, str):
        raise Refused(400, "program_malformed", "program must be text", "program")
    if times["as_of"] is not None and times["as_of"] > now:
        raise Refused(422, "as_of_ahead", "as_of is in the future: nothing is known of it yet", "as_of")
    try:
        return Question(
            as_of=now if times["as_of"] is None else times["as_of"],
            program=program,
            from_ms=times["from"],
            to_ms=times["to"],
            changes=None if changes is None else changed_keys(changes),
        )
    except TermsError as error:
        raise Refused(400, "terms_malformed", str(error), "set") from error


def _wait_for_tables(redis: Any, shards: int) -> None:
    """Until what is in the log now is decided and in the tables. Raises Refused."""
    worker = stream_ends(redis, [keys.conversions(shard) for shard in range(shards)])
    wait_for_reader(redis, worker, "worker")
    streams = [name(shard) for shard in range(shards) for name in (keys.clicks, keys.conversions, keys.credits)]
    wait_for_reader(redis, stream_ends(redis, [*streams, keys.ENTITIES]), "loader")


def stream_ends(redis: Any, streams: list[str]) -> dict[str, tuple[int, int]]:
    """The last entry of each stream that has any."""
    last = {stream: redis.xrevrange(stream, count=1) for stream in streams}
    return {stream: keys.entry_order(entries[0][0]) for stream, entries in last.items() if entries}


def wait_for_reader(redis: Any, ends: dict[str, tuple[int, int]], reader: str) -> None:
    """Until the reader of these streams has passed these entries. Raises Refused."""
    for _ in range(_LOOKS_MAX):
        behind = [
            s for s, end in ends.items() if keys.entry_order(redis.hget(keys.positions(s), reader) or b"0-0") < end
        ]
        if not behind:
            return
        time.sleep(_LOOK_AGAIN_SECONDS)
    raise Refused(503, "tables_behind", f"the {reader} is behind in {', '.join(behind)}; try again")
