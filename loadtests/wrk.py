"""wrk, run with the same settings against whatever is measured, and what it printed, as numbers.

Closed loop: 64 connections, each sends its next request when the last one is answered. That finds the greatest rate;
its latencies are those of a server at its limit. For latency at a given rate see steady.py.
"""

import re
import resource
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

CONNECTIONS = 64
SETTINGS = f"wrk -t1 -c{CONNECTIONS} --latency, keep-alive, headers of 1,000 browsers in turn"
READERS = Path(__file__).parent / "browser_headers.lua"
POSTBACKS = Path(__file__).parent / "postbacks.lua"
_MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0, "h": 3_600_000.0}


class WrkFailed(Exception):
    """wrk printed no measurement; the message is what it printed."""


class Measured(NamedTuple):
    """One run. `errors`: answers neither 2xx nor 3xx, and broken connections; `client_cpu_s`: what wrk itself took."""

    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float
    errors: int
    client_cpu_s: float = 0.0

    @property
    def as_json(self) -> dict[str, Any]:
        return self._asdict()


def run(url: str, seconds: int, script: Path = READERS, arguments: Sequence[str] = ()) -> Measured:
    """Load one URL for so long, with the requests that a script makes. Raises WrkFailed."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "10s", "--latency"]
    before = _children_cpu_seconds()
    command += ["-s", str(script), url, *(["--", *arguments] if arguments else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return parse(done.stdout + done.stderr)._replace(client_cpu_s=round(_children_cpu_seconds() - before, 2))


def parse(text: str) -> Measured:
    """The numbers in what wrk prints with --latency. Raises WrkFailed where they are not there."""
    total = re.search(r"^ *(\d+) requests in ", text, re.MULTILINE)
    rate = re.search(r"^Requests/sec: *([\d.]+)", text, re.MULTILINE)
    percentiles = {
        percent: float(value) * _MILLISECONDS[unit]
        for percent, value, unit in re.findall(r"^ *(50|99)% +([\d.]+)(us|ms|s|m|h)\b", text, re.MULTILINE)
    }
    if total is None or rate is None or len(percentiles) < 2:
        raise WrkFailed(text.strip() or "wrk printed nothing")
    refused = re.search(r"Non-2xx or 3xx responses: *(\d+)", text)
    errors = int(refused[1]) if refused else 0
    if broken := re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text):
        errors += sum(int(count) for count in broken.groups())
    return Measured(int(total[1]), float(rate[1]), round(percentiles["50"], 3), round(percentiles["99"], 3), errors)


def _children_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
