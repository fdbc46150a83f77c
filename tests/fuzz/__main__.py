"""Fuzz for a while: python -m tests.fuzz [SECONDS [TARGET]]. A target is a module here, without `test_`.

Each round is a process that tries new things, until the time is over or something is found: then it prints what, and
how to see it again.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).parent
TARGETS = sorted(path.stem.removeprefix("test_") for path in FOLDER.glob("test_*.py"))


def main(arguments: list[str]) -> int:
    seconds, asked = [*arguments, "", ""][:2]
    if (asked and asked not in TARGETS) or not (seconds or "0").isdecimal():
        print(f"a target is one of {' '.join(TARGETS)}; the time is whole seconds", file=sys.stderr)
        return 2
    targets = [asked] if asked else TARGETS
    until = time.monotonic() + int(seconds or "300")
    rounds = 0
    while rounds < len(targets) or time.monotonic() < until:
        target = targets[rounds % len(targets)]
        print(f"round {rounds + 1}: {target}", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(FOLDER / f"test_{target}.py")],
            env={**os.environ, "FUZZ_TIMES": "20", "FUZZ_SEED": str(time.time_ns() % 2**32)},
        )
        if done.returncode:
            return 1
        rounds += 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
