"""What the tests need besides Python packages: Redis 7, Chromium, nginx, a compiler, from the system's packages.

`python -m tests.needs` installs what is missing where it may (root on a Debian machine), and says what it could not:
the tests that need it are then skipped with that reason in their name's place, and in CI that is a failure.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence

from deploy.compile import missing as lacking_to_compile

PROGRAMS = {
    "redis-server": "redis-server",
    "chromium": "chromium",
    "curl": "curl",
    "nginx": "nginx-light",
    "systemd-analyze": "systemd",
}
"""By program, the Debian package that brings it."""


def missing(programs: Mapping[str, str]) -> list[str]:
    """Packages whose program is not here."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"  # Debian keeps nginx where only root's PATH leads
    return [package for program, package in programs.items() if shutil.which(program, path=path) is None]


def install(packages: Sequence[str]) -> None:
    """Install packages where that is allowed: root on a Debian machine."""
    if not packages or os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}  # no service started
    subprocess.run(["apt-get", "update", "-qq"], env=environ, check=False)
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    subprocess.run(command, env=environ, check=False, stdout=subprocess.DEVNULL)


def main() -> None:
    install([*missing(PROGRAMS), *lacking_to_compile()])
    for package in [*missing(PROGRAMS), *lacking_to_compile()]:
        print(f"not installed, tests that need it will be skipped: {package}", file=sys.stderr)


if __name__ == "__main__":
    main()
