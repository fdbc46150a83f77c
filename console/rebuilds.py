"""Rebuilds of touch state on the private port: one at a time, told line by line, ended when nobody listens any more.

The engine does it because it alone may open embedded tables, with a client and a connection of its own, beside loader
and worker. Called by admin.py.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import orjson

from attribution.replay_source import session
from console.replays import Refused
from console.tables import Tables
from console.touch_state import Rebuild, may_grow
from schemas.settings import Settings

_REST_SECONDS = 0.002
"""Between two calls of the script, which take some 1.2 ms for 100 visitors: most of the log server's time is left."""


class Rebuilds:
    """Rebuilds the touch state of one instance. `clock` gives ms, `new_mark` a text that was never given before."""

    def __init__(
        self,
        settings: Settings,
        redis: Any,
        tables: Tables,
        running: threading.Lock,
        clock: Callable[[], int],
        new_mark: Callable[[], str],
    ) -> None:
        self._settings = settings
        self._redis = redis
        self._tables = tables
        self._clock = clock
        self._new_mark = new_mark
        self._running = running

    def open(self) -> Iterator[bytes]:
        """Begin; the lines that say how far it is, to be closed by who reads them. Raises Refused."""
        if not self._running.acquire(blocking=False):
            raise Refused(429, "rebuild_running", "another rebuild, backup or forgetting is running; try again")
        try:
            settings = self._settings
            client = self._tables.client(**session(settings.limits.sql_memory, settings.limits.sql_threads))
            rebuild = Rebuild(
                self._redis,
                client,
                settings.redis.shards,
                settings.limits.touches_per_visitor,
                self._new_mark(),
                lambda: may_grow(self._redis, settings.redis.state_budget_percent / 100),
                self._clock,
                lambda: time.sleep(_REST_SECONDS),
            )
            try:
                rebuild.begin()
            except BaseException:
                client.close()
                raise
        except BaseException:
            self._running.release()
            raise
        lines = self._lines(rebuild, client)
        next(lines)  # started, it gives back what it holds also when it is dropped
        return lines

    def _lines(self, rebuild: Rebuild, client: Any) -> Iterator[bytes]:
        try:
            yield b""
            for tally in rebuild.steps():
                yield _line("progress", clicks=tally.clicks, of=tally.of)
            yield _line("end", **asdict(rebuild.tally))
        except Exception as error:
            yield _line("error", message=f"{type(error).__name__}: {error}"[:2000])
        finally:
            client.close()
            self._running.release()


def _line(section: str, **values: Any) -> bytes:
    return orjson.dumps({"section": section, **values}) + b"\n"
