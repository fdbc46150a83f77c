"""A log server for a test: a real Valkey or Redis of its own on a unix socket, which can be killed and frozen."""

import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

SAFE = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}


@dataclass
class LogServer:
    """A server with its data in `folder`; `options` beside those that every log server needs."""

    binary: str
    folder: Path
    options: dict[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None
    _client: Any = None

    @property
    def socket(self) -> Path:
        return self.folder / "s"

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def redis(self) -> Any:
        """A client with bytes in its answers."""
        if self._client is None:
            self._client = Redis(unix_socket_path=str(self.socket), socket_timeout=5, retry=Retry(NoBackoff(), 0))
        return self._client

    def start(self, **options: str) -> "LogServer":
        """Start, on what the folder holds, and wait until it answers."""
        said = {"port": "0", "unixsocket": str(self.socket), "dir": str(self.folder), "save": "", **SAFE}
        said |= self.options | {name.replace("_", "-"): value for name, value in options.items()}
        words = [word for name, value in said.items() for word in (f"--{name}", value)]
        with (self.folder / "log.txt").open("ab") as out:
            self.process = subprocess.Popen([self.binary, *words], stdout=out, stderr=out)
        deadline = time.monotonic() + 20
        while True:
            try:
                self.redis.ping()
                return self
            except Exception:
                assert time.monotonic() < deadline, (self.folder / "log.txt").read_text()
                time.sleep(0.01)

    def kill(self) -> None:
        """SIGKILL, at once."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def freeze(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)

    def clean(self) -> "LogServer":
        """Running, and empty."""
        if self.process is None:
            self.start()
        self.thaw()
        self.redis.flushall()
        return self

    def stop(self) -> None:
        if self.process is not None:
            self.thaw()
            self.kill()
        if self._client is not None:
            self._client.close()

    def entries(self, stream: str) -> list[dict[bytes, bytes]]:
        """What is in a stream."""
        return [fields for _, fields in self.redis.xrange(stream)]

    def copy_to(self, folder: Path) -> None:
        """The data as they are on disk now: what a backup would bring back."""
        shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns("s", "log.txt"), dirs_exist_ok=True)
