"""How long a reader waits for his redirect at a constant rate, nginx and lastcookie in turn on the same cores.

    python -m loadtests.open_loop --rate 2000 --pairs 5 --rest 60

Part of `make bench`; by itself for hosts that slow down who was busy for long, as the full run is: `--rest` gives them
time. The generator is steady.py. Exits 1 if an answer was wrong, never because of a time.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loadtests import figures, machine, needs, steady
from loadtests.nginx import Nginx
from loadtests.scratch import scratch_folder
from tests.system import System, free_ports, running

RESULTS = Path(__file__).parent / "results" / "open_loop"
_WARM_UP_SECONDS = 3


@contextmanager
def side_by_side(folder: Path) -> Iterator[tuple[Nginx, System]]:
    """Both servers, running."""
    for name in ("nginx", "lastcookie"):
        (folder / name).mkdir()
    [port] = free_ports(1)
    with Nginx(folder / "nginx", port, machine.cores()) as nginx, running(System(folder / "lastcookie")) as system:
        yield nginx, system


def measure(nginx: str, lastcookie: str, rate: int, pairs: int, seconds: int, rest: int) -> dict[str, Any]:
    """Pairs of runs at two URLs, and the pair that counts (figures.py); clicks a second, lengths in seconds."""
    found = []
    for _ in range(pairs):
        time.sleep(rest)
        pair = {"nginx": steady.measure(nginx, rate, seconds), "lastcookie": steady.measure(lastcookie, rate, seconds)}
        found.append(pair)
        for who, m in pair.items():
            print(
                f"{rate}/s, open loop, {who:10} p50 {m['p50_ms']:.2f}  p99 {m['p99_ms']:.2f}"
                f"  p99.9 {m['p999_ms']:.2f}  max {m['max_ms']:.2f} ms  wrong {m['errors']}"
                f"  (generator late by p99 {m['lag_p99_ms']:.2f} ms)",
                flush=True,
            )
    return {"rate": rate, "rounds": found, **figures.median_pair(found)}


def line(found: dict[str, Any]) -> str:
    """What it amounts to, beside the goal."""
    nginx, ours = found["nginx"]["p99_ms"], found["lastcookie"]
    return (
        f"p99 at {found['rate']} clicks/s    {ours['p99_ms']} ms, {ours['p99_ms'] / nginx:.1f} times nginx's (goal at"
        f" 2000: 5 ms, 6 times; the generator's own lateness {ours['lag_p99_ms']} ms; of {found['in_time']} of"
        f" {len(found['rounds'])} runs with a generator in time)"
    )


def wrong(found: dict[str, Any]) -> int:
    """Answers that were no redirect, or did not come."""
    return sum(int(pair[who]["errors"]) for pair in found["rounds"] for who in ("nginx", "lastcookie"))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m loadtests.open_loop", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rate", type=int, default=2000, help="clicks a second")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=8, help="of each run")
    parser.add_argument("--rest", type=int, default=30, help="seconds before each pair")
    parser.add_argument("--save", action="store_true", help="keep the result under loadtests/results/open_loop/")
    options = parser.parse_args()
    needs.require()
    with scratch_folder("open-loop") as folder, side_by_side(folder) as (nginx, system):
        url = f"http://127.0.0.1:{system.edge_port}/c/boots"
        steady.measure(url, options.rate, _WARM_UP_SECONDS)
        found = measure(nginx.url, url, options.rate, options.pairs, options.seconds, options.rest)
    print(line(found))
    if options.save:
        about = {
            "date": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "command": "python -m loadtests.open_loop " + " ".join(sys.argv[1:]),
            "machine": machine.describe(),
            "versions": machine.versions(),
        }
        path = RESULTS / f"{about['date'].replace(':', '')}.json"
        path.write_text(json.dumps({**about, **found}, indent=1) + "\n")
        print(f"saved as {path.name}")
    sys.exit(1 if wrong(found) else 0)


if __name__ == "__main__":
    main()
