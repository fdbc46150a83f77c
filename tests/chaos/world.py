"""What a scenario plays in: a system of its own, on the embedded log server or on one that it can kill, freeze and
fill, behind a proxy. And what it says in the end: rows of a table, promise by promise.
"""

import json
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from console.embedded import binary
from tests.chaos.driver import Driver, Journal
from tests.chaos.proof import Left, compare, prove
from tests.chaos.proxy import Proxy
from tests.log_server import LogServer
from tests.system import System, free_ports

_LIMITS = {
    "rate_clicks_per_ip": 0,
    "rate_clicks_per_visitor": 0,
    "sql_rows": 10_000_000,
    "sql_memory": "2gb",
    "sql_seconds": 120,
}


@dataclass(frozen=True)
class Size:
    """How much of everything. Times in seconds."""

    name: str
    kills: int
    events: int
    redirects: int
    outage_clicks: int
    outage: float
    drained_within: float
    reports: int
    quiet: float


SIZES = {
    "tiny": Size("tiny", 1, 300, 100, 200, 1, 60, 20, 0.2),
    "small": Size("small", 3, 2_000, 1_000, 2_000, 8, 60, 200, 1),
    "full": Size("full", 50, 100_000, 10_000, 50_000, 300, 60, 1_000, 60),
}


class Row(NamedTuple):
    """One line of the table. `is_kept`: whether the promise was kept."""

    promise: str
    figure: str
    seen: str
    is_kept: bool


@dataclass
class World:
    """Where scenarios run; `folder` is emptied between them."""

    size: Size
    seed: str
    folder: Path
    rows: list[Row] = field(default_factory=list)

    def tell(self, promise: str, figure: str, seen: str, is_kept: bool) -> None:
        """Note what was seen of a promise."""
        self.rows.append(Row(promise, figure, seen, is_kept))

    def tell_left(self, promise: str, figure: str, done: str, left: Left, happened: bool) -> None:
        """Note what a scenario left; `happened`: its fault has really been there."""
        seen = f"{done}; {left}" if happened else f"THE FAULT DID NOT HAPPEN: {done}; {left}"
        self.tell(promise, figure, seen, left.is_clean and happened)

    def prove(self, system: System, redis: Any, driver: Driver, seconds_max: float = 90) -> Left:
        """What the driver's run left, after the quiet while; a system that does not come to rest is broken."""
        try:
            return prove(system, redis, driver, self.size.quiet, seconds_max)
        except (TimeoutError, AssertionError) as error:
            return compare(driver.run, driver.journal, system)._replace(broken=[f"{type(error).__name__}: {error}"])

    @contextmanager
    def embedded(self, environ: dict[str, str] | None = None, **settings: dict[str, Any]) -> Iterator[System]:
        """A running system with the embedded log server."""
        with self._running(settings, environ or {}) as system:
            yield system

    @contextmanager
    def outside(self) -> Iterator["Outside"]:
        """A running system on a log server of its own behind a proxy."""
        with self._folder() as folder:
            (folder / "log-server").mkdir()
            (port,) = free_ports(1)
            server = LogServer(str(binary()), folder / "log-server", {"port": str(port)}).start()
            try:
                with Proxy(port) as proxy:
                    redis = {"url": f"redis://127.0.0.1:{proxy.port}/0"}
                    with self._running({"redis": redis}, {}) as system:
                        yield Outside(system, server, proxy)
            finally:
                server.stop()

    @contextmanager
    def _running(self, settings: dict[str, dict[str, Any]], environ: dict[str, str]) -> Iterator[System]:
        with self._folder() as folder:
            given = {"server": {"workers": 2}, "limits": _LIMITS, **settings}
            system = System(folder, given, environ).start()
            try:
                yield system
            finally:
                if system.process is not None:
                    system.stop()

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        folder = self.folder / f"world-{len(list(self.folder.iterdir()))}"
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


class Outside(NamedTuple):
    """A system whose log server is in the scenario's hands."""

    system: System
    server: LogServer
    proxy: Proxy


def keys_of(system: System) -> tuple[str, str]:
    """An API key and a postback token of the demo's merchant."""
    return system.key("api"), system.key("postback")


def counted(system: System, name: str) -> int:
    """What the trackers that run have counted under this name, as they last said."""
    beats = [json.loads(path.read_bytes()) for path in (system.data_dir / "run").glob("tracker-*.json")]
    return sum(count for beat in beats for key, count in beat["counters"].items() if key.partition(":")[0] == name)


def engine_counted(system: System, outcome: str) -> int:
    """What the engine has counted."""
    text = system.request("GET", "/metrics", port=system.admin_port, host="127.0.0.1").body.decode()
    wanted = f'lastcookie_engine_total{{outcome="{outcome}"}} '
    return int(sum(float(line[len(wanted) :]) for line in text.splitlines() if line.startswith(wanted)))


@contextmanager
def full_disk(*pids: int) -> Iterator[None]:
    """Processes that can write to no file, as on a full disk."""
    before = [resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in pids]
    for pid, (_, hard) in zip(pids, before, strict=True):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        for pid, limits in zip(pids, before, strict=True):
            try:
                resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
            except ProcessLookupError:  # it did not survive
                continue


def answered(journal: Journal) -> str:
    """Redirects of all clicks, as told in a row."""
    return f"{journal.statuses[302]:,} of {len(journal.asked_clicks):,} redirected"
