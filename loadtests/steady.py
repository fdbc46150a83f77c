"""A constant rate, whatever the server does: requests at random times (Poisson), each timed from when it was due.

A closed loop like wrk's waits for a slow server before it asks again, and so hides the stall it waited through
(coordinated omission). Here the times are drawn beforehand; a request that finds every connection busy waits, and the
wait counts. `lag` is how late requests left, by the fault of either side: compare with nginx in the same run.

    python -m loadtests.steady http://127.0.0.1:8080/c/boots --rate 1000 --seconds 10

One thread over select(), whose timeouts are in microseconds (epoll's are in milliseconds). Good for some 5,000/s.
"""

import argparse
import gc
import json
import random
import select
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

from loadtests.figures import percentile

CONNECTIONS = 64
_WAIT_SECONDS_MAX = 30.0
PERSON = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36"
BROWSER = {
    "User-Agent": PERSON,
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "en-GB,en;q=0.9,de;q=0.8",
    "Referer": "https://blog.example/2026/the-ten-best-boots",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "cross-site",
    "Sec-Fetch-User": "?1",
    "Upgrade-Insecure-Requests": "1",
}


def measure(url: str, rate: float, seconds: float) -> dict[str, Any]:
    """Run the generator in a process of its own; its report."""
    return finish(start(url, rate, seconds))


def start(url: str, rate: float, seconds: float) -> "subprocess.Popen[str]":
    """The generator, running; `finish` waits for it."""
    command = [sys.executable, "-m", "loadtests.steady", url, "--rate", str(rate), "--seconds", str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """The report of a generator. Raises RuntimeError where it failed."""
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the generator failed with {process.returncode}")
    report: dict[str, Any] = json.loads(output)
    return report


def due_times(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """When requests are due, in seconds from the start; gaps are exponential: arrivals know nothing of each other."""
    draw = random.Random(seed)
    at = draw.expovariate(rate)
    while at < seconds:
        yield at
        at += draw.expovariate(rate)


def report(latencies_ms: list[float], lags_ms: list[float], wrong: int, seconds: float) -> dict[str, Any]:
    """The figures of a run; `wrong` counts answers other than 302, and requests without one."""
    return {
        "requests": len(latencies_ms),
        "per_second": round(len(latencies_ms) / seconds, 1),
        "p50_ms": percentile(latencies_ms, 50),
        "p99_ms": percentile(latencies_ms, 99),
        "p999_ms": percentile(latencies_ms, 99.9),
        "max_ms": percentile(latencies_ms, 100),
        "lag_p99_ms": percentile(lags_ms, 99),
        "errors": wrong,
    }


class Generator:
    """Keeps its connections and what it has measured."""

    def __init__(self, host: str, port: int, request: bytes) -> None:
        self._address = (host, port)
        self._request = request
        # Taken in turn: one that was never used would be closed as one that is slow to ask.
        self._idle = deque(self._connect() for _ in range(CONNECTIONS))
        self._busy: dict[socket.socket, float] = {}
        self._received: dict[socket.socket, bytes] = {}
        self.latencies_ms: list[float] = []
        self.lags_ms: list[float] = []
        self.wrong = 0

    def _connect(self) -> socket.socket:
        connection = socket.create_connection(self._address, timeout=_WAIT_SECONDS_MAX)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def run(self, due: Iterable[float]) -> None:
        """Send each request when it is due, and wait for the last answer. Raises TimeoutError."""
        times = deque(due)
        origin = time.perf_counter()
        while times or self._busy:
            now = time.perf_counter() - origin
            while times and times[0] <= now and self._idle:
                self._send(times.popleft(), now)
            wait = _WAIT_SECONDS_MAX if not times or not self._idle else max(0.0, times[0] - now)
            readable, _, _ = select.select(self._busy, (), (), wait)
            if not readable and wait == _WAIT_SECONDS_MAX:
                raise TimeoutError(f"no answer for {wait} s")
            now = time.perf_counter() - origin
            for connection in readable:
                self._receive(connection, now)

    def _send(self, due: float, now: float) -> None:
        connection = self._idle.popleft()
        self._busy[connection] = due
        self.lags_ms.append((now - due) * 1000)
        try:
            connection.sendall(self._request)
        except ConnectionError:
            self._replace(connection)

    def _receive(self, connection: socket.socket, now: float) -> None:
        try:
            received = connection.recv(65536)
        except ConnectionError:
            received = b""
        if not received:
            self._replace(connection)
            return
        received = self._received.pop(connection, b"") + received
        if not is_whole(received):
            self._received[connection] = received
            return
        self.latencies_ms.append((now - self._busy.pop(connection)) * 1000)
        self.wrong += not received.startswith(b"HTTP/1.1 302 ")
        self._idle.append(connection)

    def _replace(self, connection: socket.socket) -> None:
        """The server gave this request no answer."""
        self.wrong += 1
        del self._busy[connection]
        self._received.pop(connection, None)
        connection.close()
        self._idle.append(self._connect())

    def close(self) -> None:
        """Close every connection."""
        for connection in (*self._idle, *self._busy):
            connection.close()


def is_whole(received: bytes) -> bool:
    """Whether an answer with Content-Length has arrived completely."""
    head, separator, body = received.partition(b"\r\n\r\n")
    if not separator:
        return False
    _, _, rest = head.lower().partition(b"\r\ncontent-length:")
    return len(body) >= int(rest.partition(b"\r\n")[0] or 0)


def main() -> None:
    parser = argparse.ArgumentParser(description="Ask for one URL at a constant rate; print latencies as JSON.")
    parser.add_argument("url")
    parser.add_argument("--rate", type=float, default=1000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    url = urlsplit(options.url)
    headers = {"Host": url.netloc, **BROWSER}
    target = url.path + (f"?{url.query}" if url.query else "")
    lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    generator = Generator(url.hostname or "", url.port or 80, "\r\n".join(lines).encode())
    times = list(due_times(options.rate, options.seconds, options.seed))
    gc.freeze()
    gc.disable()  # a pause of ours would be measured as the server's
    try:
        generator.run(times)
    finally:
        generator.close()
    print(json.dumps(report(generator.latencies_ms, generator.lags_ms, generator.wrong, options.seconds)))


if __name__ == "__main__":
    main()
