"""What the tests need besides Python packages: Redis 7, Chromium, nginx, a compiler, from the system's packages.

`python -m tests.needs` installs what is missing where it may (root on a Debian machine), and says what it could not:
the tests that need it are then skipped with that reason in their name's place, and in CI that is a failure.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

PROGRAMS = {
    "cc": "gcc libc6-dev",
    "redis-server": "redis-server",
    "chromium": "chromium",
    "curl": "curl",
    "nginx": "nginx-light",
    "systemd-analyze": "systemd",
}
"""By program, the Debian packages that bring it."""


def missing() -> list[str]:
    """Packages whose program is not here."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"  # Debian keeps nginx where only root's PATH leads
    packages = [package for program, package in PROGRAMS.items() if shutil.which(program, path=path) is None]
    return packages if _has_headers() else [*packages, "python3-dev"]


def _has_headers() -> bool:
    return Path(sysconfig.get_path("include"), "Python.h").exists()


def main() -> None:
    if sys.argv[1:] == ["--compiler"]:  # is there one?
        sys.exit(shutil.which("cc") is None or not _has_headers())
    packages = missing()
    if packages and os.geteuid() == 0 and shutil.which("apt-get"):
        environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}  # no service started
        subprocess.run(["apt-get", "update", "-qq"], env=environ, check=False)
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *" ".join(packages).split()]
        subprocess.run(command, env=environ, check=False, stdout=subprocess.DEVNULL)
    for package in missing():
        print(f"not installed, tests that need it will be skipped: {package}", file=sys.stderr)


if __name__ == "__main__":
    main()
