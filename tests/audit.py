"""Known vulnerabilities of what requirements.lock pins: `make audit`, which `make check` calls.

    python -m tests.audit [LOCK] [OSV_URL]

Exit status 1 for a known vulnerability, and where the lock cannot be read. Where the database of vulnerabilities
(osv.dev) cannot be reached it says so and passes: a machine without network shall be able to run the checks.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ACCEPTED: dict[str, str] = {}
"""By id, the vulnerabilities that do not concern us, and why."""

_LOCK = Path(__file__).parent.parent / "requirements.lock"
_UNREACHABLE = re.compile(r"ConnectionError|Timeout|ServiceError|Could not connect")


def main() -> None:
    lock, *url = sys.argv[1:] or [str(_LOCK)]
    command = [sys.executable, "-m", "pip_audit", "--requirement", lock, "--disable-pip", "--require-hashes"]
    command += ["--vulnerability-service", "osv", *(["--osv-url", url[0]] if url else [])]
    command += ["--format", "json", "--progress-spinner", "off", *(f"--ignore-vuln={id}" for id in ACCEPTED)]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        packages: list[Any] = json.loads(done.stdout)["dependencies"]
    except ValueError:
        last = done.stderr.strip().splitlines()[-1:] or ["it printed nothing"]
        if _UNREACHABLE.search(done.stderr):
            print(f"audit: not done, the database of vulnerabilities cannot be reached ({last[0][:200]})")
            return
        sys.exit(f"audit: failed: {last[0]}")
    broken = [(package, found) for package in packages for found in package.get("vulns", [])]
    for package, found in broken:
        fixed = f"fixed in {', '.join(found['fix_versions'])}" if found["fix_versions"] else "not fixed yet"
        print(f"audit: {package['name']} {package['version']}: {found['id']}, {fixed}: {found['description'][:200]}")
    if broken:
        sys.exit(1)
    print(f"audit: no known vulnerability in {len(packages)} packages")


if __name__ == "__main__":
    main()
