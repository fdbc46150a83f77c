"""`python -m loadtests.peers`: lastcookie, nginx and other ways to count a click, one after the other in one run.

Each gets the same wrk on the same cores; ratios are to nginx's mean before and after. Then each is asked how many
clicks it has recorded. What has to be installed for a peer, and how, is in README.md here; one that is not installed
is left out and named. Exits 1 if lastcookie or nginx answered wrongly or lost a click, never for being slow.
"""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from redis import Redis

from console import embedded
from loadtests import figures as bench_figures
from loadtests import machine, memory, needs, results, wrk
from loadtests.nginx import Nginx
from loadtests.peers import figures, postgres, servers
from loadtests.scratch import scratch_folder
from schemas.settings import load
from tests.system import System, free_ports, running


@contextmanager
def nginx(folder: Path) -> Iterator[servers.Running]:
    """The yardstick: writes a line of its access log, and keeps nothing else."""
    [port] = free_ports(1)
    with Nginx(folder, port, machine.cores()) as running:
        yield servers.Running(running.url, "no, a line of the access log", lambda: _lines(folder / "access.log"))


@contextmanager
def lastcookie(folder: Path) -> Iterator[servers.Running]:
    """As `lastcookie up` starts it, a tracker a core; counted in the tables once the log is loaded."""
    with running(System(folder, {"server": {"workers": 0}})) as system:
        redis: Any = Redis.from_url(embedded.url(load(system.config, None, os.environ)))

        def count() -> int:
            memory.wait_until_loaded(redis)
            return int(system.sql("SELECT count() AS n FROM clicks")[0]["n"])

        fsync = "valkey, appendfsync " + redis.config_get("appendfsync")["appendfsync"]
        yield servers.Running(f"http://127.0.0.1:{system.edge_port}/c/boots", fsync, count)


def measure(name: str, start: AbstractContextManager[servers.Running], options: argparse.Namespace) -> dict[str, Any]:
    """Start one server, load it, count."""
    with start as running:
        if not machine.wait_until_quiet(bench_figures.OTHERS_MAX, options.patience):
            print(f"{name}: other processes keep the cores busy; going on all the same", flush=True)
        servers.probe(running.url)
        before = running.count()
        measured = wrk.run(running.url, options.seconds)
        recorded = _recorded(running, before, measured.requests)
        found = figures.run(name, measured, recorded, running.fsync)
    print(f"{name:22} {measured.per_second:>9,.0f}/s, clicks found: {figures.verdict(found)}", flush=True)
    return found


def _recorded(running: servers.Running, before: int, answered: int) -> int:
    """Clicks found, for up to half a minute: a server may write some later, from a file of its own."""
    deadline = time.monotonic() + 30
    while (recorded := running.count() - before) < answered and time.monotonic() < deadline:
        time.sleep(1)
    return recorded


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything, in order."""
    installed = servers.versions(options.venv) if options.venv else {}
    left_out: dict[str, list[str]] = {}
    planned: list[tuple[str, Callable[[Path], AbstractContextManager[servers.Running]]]] = [
        ("nginx before", nginx),
        (figures.OURS, lastcookie),
    ]
    for peer in servers.PEERS:
        if lacking := servers.lacking(peer, installed):
            left_out[peer.name] = lacking
            print(f"{peer.name} is left out, it needs {', '.join(lacking)} (loadtests/peers/README.md)", flush=True)
        else:
            planned.append((peer.name, lambda own, start=peer.start: start(options.venv, own)))
    planned.append(("nginx after", nginx))
    result: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "command": _command(options),
        "machine": machine.describe(),
        "versions": {**machine.versions(), "peers": installed},
        "settings": {"load": wrk.SETTINGS, "seconds": options.seconds, "workers": machine.cores()},
        "fdatasync_ms": machine.fdatasync_ms(folder),
        "left_out": left_out,
        "runs": [],
    }
    if postgres.is_installed():
        result["versions"]["peers"]["postgresql"] = postgres.version()
    for number, (name, start) in enumerate(planned):
        own = folder / str(number)
        own.mkdir()
        try:
            result["runs"].append(measure(name, start(own), options))
        except (servers.PeerFailed, postgres.PostgresFailed) as error:
            if name not in {peer.name for peer in servers.PEERS}:
                raise
            left_out[name] = ["did not start or did not redirect"]
            print(f"{name} is left out: {error}", flush=True)
        shutil.rmtree(own, ignore_errors=True)
    result["summary"] = figures.summarise(result["runs"])
    return result


def _command(options: argparse.Namespace) -> str:
    # Results are published: where somebody keeps an environment does not belong in them.
    venv = " --venv VENV" if options.venv else ""
    save = " --save" if options.save else ""
    return f"python -m loadtests.peers{venv} --seconds {options.seconds}{save}"


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.peers", description="lastcookie beside nginx and other ways to count a click."
    )
    parser.add_argument("--venv", type=Path, help="virtual environment with the peers (loadtests/peers/README.md)")
    parser.add_argument("--seconds", type=int, default=8, help="of each run of wrk")
    parser.add_argument("--patience", type=int, default=60, help="seconds to wait for quiet cores before each")
    parser.add_argument("--save", action="store_true", help="keep the result under loadtests/results/peers/")
    options = parser.parse_args()
    if options.venv:
        options.venv = options.venv.absolute()
        if not (options.venv / "bin" / "python").exists():
            parser.error("--venv: no virtual environment is there; README.md beside this command says how to make it")
    needs.require()
    with scratch_folder("peers") as folder:
        result = run(options, folder)
    summary, disk = result["summary"], result["fdatasync_ms"]
    print("", *figures.table(result["runs"], summary), "", sep="\n")
    print(f"nginx differed from itself by {summary['noise']:.0%}; fdatasync of 4 KiB p50 {disk['p50']} ms")
    if options.save:
        path = results.write(result, figures.FOLDER, figures.KEYS, figures.COLUMNS, figures.table_line)
        print(f"saved as {path.name}")
    ours = [found for found in result["runs"] if found["name"] == figures.OURS or found["name"].startswith("nginx")]
    wrong = [found["name"] for found in ours if found["errors"] or found["lost"] or found["surplus"]]
    for name in wrong:
        print(f"WRONG: {name} answered wrongly, or its clicks are not as many as were answered")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
