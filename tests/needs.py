"""What the tests need besides Python packages: Redis 7, Chromium, nginx and wrk, from the system's packages.

`python -m tests.needs` installs what is missing where it may (root on a Debian machine), and says what it could not:
the tests that need it are then skipped with that reason in their name's place, and in CI that is a failure.
"""

import os
import shutil
import subprocess
import sys

PROGRAMS = {"redis-server": "redis-server", "chromium": "chromium", "curl": "curl"}
"""By program, the Debian package that brings it."""


def missing() -> list[str]:
    """Packages whose program is not here."""
    return [package for program, package in PROGRAMS.items() if shutil.which(program) is None]


def main() -> None:
    packages = missing()
    if packages and os.geteuid() == 0 and shutil.which("apt-get"):
        environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], env=environ, check=False)
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
        subprocess.run(command, env=environ, check=False, stdout=subprocess.DEVNULL)
    for package in missing():
        print(f"not installed, tests that need it will be skipped: {package}", file=sys.stderr)


if __name__ == "__main__":
    main()
