"""The supervisor: starts what the configuration names, restarts what dies, drains and stops on SIGTERM.

    log server (embedded only) -> trackers and engine -> demo shop (with [demo] only)

Listening sockets are made here, one a tracker, and handed down: while a tracker is being replaced its connections
wait instead of being refused. A child dies with its supervisor, whatever kills that. Called by `lastcookie up`.
"""

import ctypes
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import redis
from redis.exceptions import RedisError

from console import embedded
from console.bootstrap import REFUSED
from schemas.kinds import Address
from schemas.settings import Settings
from tracker.click_id import WORKERS_A_NODE
from tracker.snapshot import snapshot_path

_LOG_BYTES_MAX = 10_000_000
_RESTART_SECONDS = (0.0, 0.2, 1.0, 3.0)
_PR_SET_PDEATHSIG = 1


class StartFailed(Exception):
    """The system cannot be started; the message says why and what to do."""


@dataclass
class Child:
    """A process to keep running. `order`: those with a lower one are stopped first."""

    name: str
    command: list[str]
    sockets: list[socket.socket] = field(default_factory=list)
    environ: dict[str, str] = field(default_factory=dict)
    withheld: tuple[str, ...] = ("LASTCOOKIE_",)
    """Beginnings of the names of variables that it does not need: they may hold passwords."""
    process: "subprocess.Popen[bytes] | None" = None
    failures: int = 0
    started_at: float = 0.0
    not_before: float = 0.0


class Supervisor:
    """Runs one instance: the settings, and the file they came from."""

    def __init__(self, settings: Settings, config: Path, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._config = config
        self._say = say
        self._stopping = False
        self._data = settings.data.dir
        self._children: list[Child] = []

    def run(self, when_ready: Callable[[], None]) -> None:
        """Start everything, call `when_ready` once it answers, and stay until SIGTERM or SIGINT. Raises StartFailed."""
        os.umask(0o077)  # everything that is made from here on, by children too
        try:
            (self._data / "log").mkdir(parents=True, exist_ok=True)
            self._shut_folder()
        except OSError as error:
            raise StartFailed(f"the data folder cannot be used: {error}") from error
        lock = self._lock()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: setattr(self, "_stopping", True))
        for beat in (self._data / "run").glob("tracker-*.json"):
            beat.unlink()
        try:
            self._plan()
            for child in self._children:
                if child.name == "engine" and snapshot_path(self._data).exists():
                    self._wait_for_trackers()
                self._start(child)
                # With links at hand trackers need not wait for it: they are longer about starting themselves.
                if child.name == "valkey" and not snapshot_path(self._data).exists():
                    self._wait_for_log_server()
            self._wait_until_ready()
            if not self._stopping:
                when_ready()
            while not self._stopping:
                self._restart_dead()
                time.sleep(0.1)
        finally:
            self._stop_all()
            os.close(lock)

    def _shut_folder(self) -> None:
        """There are keys in it, and all that is known of people: for its owner alone, also where it was open before."""
        found = self._data.stat()
        if found.st_mode & 0o077 and found.st_uid == os.getuid():
            self._data.chmod(0o700)
        elif found.st_mode & 0o077:
            self._say(f"warning: {self._data} belongs to somebody else and is open to others")

    def _plan(self) -> None:
        settings = self._settings
        environ = {"LASTCOOKIE_LOG_URL": embedded.url(settings)}
        common = ["--config", str(self._config), "--data-dir", str(self._data)]
        count = settings.server.workers or len(os.sched_getaffinity(0))
        # Bound before anything is started: a port that is taken stops the start at once.
        edges = [_listen(settings.server.listen, share=True) for _ in range(count)]
        admin = _listen(settings.server.admin_listen)
        if not settings.redis.url:
            self._children.append(Child("valkey", embedded.command(settings)))
        for number, edge in enumerate(edges):
            command = [sys.executable, "-m", "tracker.app", *common]
            command += ["--number", str(settings.server.node * WORKERS_A_NODE + number), "--socket", str(edge.fileno())]
            withheld = ("LASTCOOKIE_CLICKHOUSE_DSN",)
            self._children.append(Child(f"tracker-{number}", command, [edge], environ, withheld))
        command = [sys.executable, "-m", "console.engine", *common, "--socket", str(admin.fileno())]
        self._children.append(Child("engine", command, [admin], environ, withheld=()))
        if settings.demo.shop_listen:
            shop = settings.demo.shop_listen
            command = [sys.executable, "-m", "console.demo_shop", "--listen", f"{shop.host}:{shop.port}"]
            command += ["--edge", settings.server.public_url]
            self._children.append(Child("shop", command))

    def _start(self, child: Child) -> None:
        log = self._data / "log" / f"{child.name}.log"
        if log.exists() and log.stat().st_size > _LOG_BYTES_MAX:
            log.replace(log.with_suffix(".log.1"))
        supervisor = os.getpid()

        def die_with_supervisor() -> None:
            # Ctrl-C in a terminal is for the supervisor, which stops its children in order.
            os.setpgid(0, 0)
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != supervisor:
                os._exit(1)

        with log.open("ab") as out:
            child.process = subprocess.Popen(
                child.command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={name: text for name, text in os.environ.items() if not name.startswith(child.withheld)}
                | child.environ,
                pass_fds=[s.fileno() for s in child.sockets],
                preexec_fn=die_with_supervisor,
            )
        child.started_at = time.monotonic()

    def _restart_dead(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if child.process is not None and child.process.poll() is not None:
                if now - child.started_at > 10:
                    child.failures = 0
                wait = _RESTART_SECONDS[min(child.failures, len(_RESTART_SECONDS) - 1)]
                self._say(f"{child.name} ended with status {child.process.returncode}, starting it again")
                child.process, child.not_before = None, now + wait
                child.failures += 1
            if child.process is None and now >= child.not_before:
                self._start(child)

    def _wait_for_log_server(self) -> None:
        """At the first start it is up in milliseconds, and then trackers need its links."""
        deadline = time.monotonic() + 2
        client = redis.Redis(unix_socket_path=str(embedded.socket_path(self._settings)), socket_timeout=0.5)
        while time.monotonic() < deadline and not self._stopping:
            self._fail_if_dead()
            with suppress(RedisError, OSError):
                client.ping()
                break
            time.sleep(0.02)
        client.close()

    def _wait_for_trackers(self) -> None:
        """Readers wait for them alone: the engine, which is longer about its start, leaves them the cores meanwhile."""
        deadline = time.monotonic() + 2
        count = sum(child.name.startswith("tracker") for child in self._children)
        while time.monotonic() < deadline and not self._stopping:
            if len(list((self._data / "run").glob("tracker-*.json"))) >= count:
                return
            time.sleep(0.02)

    def _wait_until_ready(self) -> None:
        """The first start fails where something does not come up; later ones wait, as links work without the stores."""
        address = self._settings.server.admin_listen
        has_links = snapshot_path(self._data).exists()
        deadline = time.monotonic() + 300
        while not self._stopping:
            if has_links:
                self._fail_if_refused()
                self._restart_dead()
            else:
                self._fail_if_dead()
            with suppress(OSError):
                if _get_status(address, "/readyz") == 200:
                    return
            if time.monotonic() > deadline:
                if not has_links:
                    raise StartFailed(f"not ready after 5 minutes; see {self._data / 'log'}")
                self._say(f"not ready yet, links work; see {self._data / 'log'}")
                deadline = time.monotonic() + 300
            time.sleep(0.1)

    def _fail_if_refused(self) -> None:
        if any(child.process is not None and child.process.poll() == REFUSED for child in self._children):
            self._fail_if_dead()

    def _fail_if_dead(self) -> None:
        for child in self._children:
            if child.process is not None and child.process.poll() is not None:
                log = self._data / "log" / f"{child.name}.log"
                tail = log.read_text("utf-8", "replace").splitlines()[-5:]
                raise StartFailed(f"{child.name} ended with status {child.process.returncode}:\n" + "\n".join(tail))

    def _stop_all(self) -> None:
        """Trackers first, so that nothing new comes in; then the engine, which loads what is left; the log last."""
        drain = self._settings.server.drain_timeout / 1000
        for names, seconds in ((("tracker", "shop"), drain + 5), (("engine",), 45), (("valkey",), 30)):
            group = [child for child in self._children if child.name.startswith(names) and child.process]
            for child in group:
                assert child.process is not None
                child.process.terminate()
            deadline = time.monotonic() + seconds
            for child in group:
                assert child.process is not None
                try:
                    child.process.wait(max(0.1, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    self._say(f"{child.name} does not stop, killing it")
                    child.process.kill()
                    child.process.wait()

    def _lock(self) -> int:
        descriptor = os.open(self._data / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartFailed(f"another `lastcookie up` is running on {self._data}") from None
        return descriptor


def _listen(address: Address, share: bool = False) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        if share:
            _refuse_if_taken(address, family)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((address.host, address.port))
    except OSError as error:
        raise StartFailed(f"cannot listen on {address.host}:{address.port}: {error.strerror}") from error
    listener.listen(4096)
    return listener


_bound: set[tuple[str, int]] = set()


def _refuse_if_taken(address: Address, family: int) -> None:
    """SO_REUSEPORT would share a port with another program of ours without a word."""
    if (address.host, address.port) in _bound:
        return
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((address.host, address.port))
    _bound.add((address.host, address.port))


def _get_status(address: Address, path: str) -> int:
    import http.client

    connection = http.client.HTTPConnection(address.host, address.port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()
