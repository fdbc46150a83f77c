"""A PostgreSQL cluster of its own for one peer, in a temporary folder, on a Unix socket; a system's is left alone.

As it comes, but for where it listens. Debian's `postgresql` brings the programs. As root it runs as the user
`postgres`, as PostgreSQL demands; otherwise as whoever asks.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

_INSTALLED = Path("/usr/lib/postgresql")
_ROLE = "postgres"


class PostgresFailed(Exception):
    """It did not start; the message has its own words."""


class Cluster(NamedTuple):
    """A running cluster; `folder` has its socket."""

    folder: Path

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run one statement; its rows as psql prints them unaligned. Raises CalledProcessError."""
        command = [_program("psql"), "--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-h", str(self.folder), "-U", _ROLE]
        command += ["-d", database, "-qAtc", statement]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def fsync(self) -> str:
        """What it promises for a committed row, by its own word."""
        return f"fsync {self.sql('SHOW fsync')}, synchronous_commit {self.sql('SHOW synchronous_commit')}"


def is_installed() -> bool:
    """Whether there are its programs."""
    return _folder_of_programs() is not None


def version() -> str:
    """Such as 15.18."""
    done = subprocess.run([_program("postgres"), "--version"], capture_output=True, text=True, check=True)
    return done.stdout.split()[2]


@contextmanager
def running() -> Iterator[Cluster]:
    """A fresh cluster, stopped and deleted afterwards. Raises PostgresFailed if it does not start."""
    folder = Path(tempfile.mkdtemp(prefix="peers-"))
    try:
        if _user():
            shutil.chown(folder, _ROLE, _ROLE)
        _initdb(folder)
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(_server(folder), cwd=folder, stdout=log, stderr=log, **_user())
        try:
            cluster = Cluster(folder)
            _wait(cluster, process)
            yield cluster
        finally:
            process.send_signal(signal.SIGINT)  # ends the connections and writes what there is
            process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _initdb(folder: Path) -> None:
    command = [_program("initdb"), "-D", "data", f"--username={_ROLE}", "--auth=trust", "--encoding=UTF8"]
    command += ["--locale=C.UTF-8", "--no-instructions"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, **_user())
    if done.returncode:
        raise PostgresFailed(f"initdb failed: {done.stderr}")


def _server(folder: Path) -> Sequence[str]:
    # The folder is its owner's alone (mode 700), so whoever reaches the socket may.
    return [_program("postgres"), "-D", "data", "-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}"]


def _wait(cluster: Cluster, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            cluster.sql("SELECT 1")
            return
        except subprocess.CalledProcessError:
            time.sleep(0.05)
    raise PostgresFailed(f"PostgreSQL did not start: {(cluster.folder / 'log').read_text()}")


def _user() -> dict[str, Any]:
    return {"user": _ROLE, "group": _ROLE, "extra_groups": []} if os.geteuid() == 0 else {}


def _program(name: str) -> str:
    folder = _folder_of_programs()
    if folder is None:
        raise PostgresFailed("PostgreSQL is not installed: apt-get install postgresql")
    return str(folder / name)


def _folder_of_programs() -> Path | None:
    """Of the newest version; Debian keeps them out of PATH."""
    found = [path.parent for path in _INSTALLED.glob("*/bin/initdb")]
    return max(found, key=lambda path: int(path.parent.name), default=None)
