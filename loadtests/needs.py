"""What the benchmarks need besides Python packages: nginx and wrk, from the system's packages."""

import sys

from tests.needs import install, missing

PACKAGES = {"nginx": "nginx-light", "wrk": "wrk"}
"""By program, the Debian package that brings it."""


def require() -> None:
    """Install what is missing where that is allowed (root on a Debian machine); else exit 2 and say what to do."""
    install(missing(PACKAGES))
    if missing(PACKAGES):
        print("needs nginx and wrk: apt-get install nginx-light wrk", file=sys.stderr)
        sys.exit(2)
