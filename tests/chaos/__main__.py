"""`make chaos`: what docs/chaos.md promises, under faults, as a table: promise, figure, seen. Exit 1 if one is broken.

    python -m tests.chaos --size small|full [--seed TEXT] [--only NAME]

Starts systems of its own on free ports of this machine and leaves nothing behind.
"""

import argparse
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos import outages, scenarios
from tests.chaos.world import SIZES, World

SCENARIOS: dict[str, Callable[[World], None]] = {
    "kills": scenarios.kills,
    "failpoints": scenarios.failpoints,
    "faults": outages.faults,
    "outage": outages.outage,
    "both_full": outages.both_full,
    "stale": scenarios.stale,
    "stale_clock": scenarios.stale_clock,
    "wiped": scenarios.wiped,
    "orders": scenarios.orders,
    "clocks": scenarios.clocks,
}


def play(world: World, names: list[str]) -> bool:
    """Play scenarios and print what was seen; True when every promise was kept."""
    for name in names:
        begin, before = time.monotonic(), len(world.rows)
        try:
            SCENARIOS[name](world)
        except Exception as error:  # the others are played all the same
            world.tell(name, "", f"the scenario failed: {type(error).__name__}: {error}", False)
        for row in world.rows[before:]:
            print(f"{'ok  ' if row.is_kept else 'FAIL'} {row.promise} | {row.figure} | {row.seen}", flush=True)
        print(f"     {name}: {time.monotonic() - begin:.0f} s", flush=True)
    return all(row.is_kept for row in world.rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Break everything, lose nothing.")
    parser.add_argument("--size", choices=sorted(SIZES), default="small")
    parser.add_argument("--seed", default=secrets.token_hex(4), help="of an earlier run, to repeat its choices")
    parser.add_argument("--only", action="append", choices=list(SCENARIOS), help="a scenario; may be given again")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda given, _: sys.exit(f"stopped by {signal.Signals(given).name}"))
    print(f"size {options.size}, seed {options.seed}; promise | figure | seen", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    try:
        is_kept = play(World(SIZES[options.size], options.seed, folder), options.only or list(SCENARIOS))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("every promise was kept" if is_kept else "NOT every promise was kept", f"(seed {options.seed})")
    sys.exit(0 if is_kept else 1)


if __name__ == "__main__":
    main()
