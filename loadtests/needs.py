"""What the benchmarks need besides Python packages: nginx and wrk, from the system's packages."""

import os
import shutil
import subprocess
import sys

PACKAGES = {"nginx": "nginx-light", "wrk": "wrk"}
"""By program, the Debian package that brings it."""


def require() -> None:
    """Install what is missing where that is allowed (root on a Debian machine); else exit 2 and say what to do."""
    if (packages := _missing()) and os.geteuid() == 0 and shutil.which("apt-get"):
        _install(packages)
    if _missing():
        print("needs nginx and wrk: apt-get install nginx-light wrk", file=sys.stderr)
        sys.exit(2)


def _missing() -> list[str]:
    # Debian keeps nginx where only root's PATH leads.
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    return [package for program, package in PACKAGES.items() if shutil.which(program, path=path) is None]


def _install(packages: list[str]) -> None:
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # nginx's package starts a system service of that name; the benchmark has no use for it.
    environ["RUNLEVEL"] = "1"
    subprocess.run(["apt-get", "update", "-qq"], env=environ, check=False)
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    subprocess.run(command, env=environ, check=False, stdout=subprocess.DEVNULL)
