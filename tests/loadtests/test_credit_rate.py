"""The measurement of the live worker runs, on few sales. No figure is asserted."""

import re
import subprocess
import sys

from tests.system import ROOT


def test_every_kind_of_sale_is_decided_as_its_touches_say() -> None:
    command = [sys.executable, "-m", "loadtests.credit_rate", "--sales", "40", "--clicks-besides", "1000"]
    done = subprocess.run([*command, "--flush-after-ms", "20"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 6 and all(
        re.search(r" +[\d,]+/s \(goal [\d,]+/s\); cpu a sale: \d+ µs", line) for line in lines
    )
