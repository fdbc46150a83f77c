"""The spool: where events go when the log cannot take them. Append-only, checksummed, fsynced, on local disk.

A record is one line: CRC-32 and length of its JSON, then the JSON. Records gather while a write is under way and
share its fsync (in a thread: a slow disk must not stop the redirects). A folder belongs to one process by a lock; the
folders of dead ones are adopted. Segments of a few megabytes are drained oldest first and removed only when the log
has all of one, so a crash replays some records: replay is idempotent (append_clicks.lua, conversions). A torn last
line was never acknowledged; damaged ones are counted; both are kept in `damaged/`.
"""

import asyncio
import errno
import fcntl
import itertools
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from zlib import crc32

import orjson

from schemas.failpoints import failpoint
from schemas.logs import logger

Done = Callable[[bool], None]
Send = Callable[[list[Any]], Awaitable[bool]]
_RECORDS_A_DRAIN_STEP = 256
_SEGMENT_BYTES = 4 << 20
_OWN_TRIES = 50
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class Spool:
    """One process's spool under `folder`; `name` tells it from the others. Raises OSError where it cannot be had. On a
    disk without room it begins without a folder and takes nothing, until `begin` finds room."""

    def __init__(self, folder: Path, name: str, bytes_max: int) -> None:
        self._root = folder
        self._folder = folder / name
        self._bytes_max = bytes_max
        self._numbers = itertools.count(1)
        self._queue: list[tuple[bytes, Done]] = []
        self._bytes_waiting = 0
        self._segment: Path | None = None
        self._written_to: Path | None = None
        self._sent: dict[Path, int] = {}
        self.damaged = 0
        self._stored: dict[Path, int] = {}
        self._lock: int | None = None
        try:
            self.begin()
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            logger().error("there is no room for a spool, will try again", error=str(error))

    @property
    def has_begun(self) -> bool:
        """Whether it has a folder."""
        return self._lock is not None

    def begin(self) -> None:
        """Make the folder, and take over what dead processes have left. Raises OSError."""
        lock = _own(self._folder)
        # What a process of the same name left is drained, never added to: it may end in a torn line.
        self._stored = {path: path.stat().st_size for path in self._folder.glob("*.spool")}
        self._stored |= self._take_over()
        self._lock = lock

    @property
    def size(self) -> int:
        """Bytes on disk, and on their way there."""
        return self._bytes_waiting + sum(self._stored.values())

    @property
    def is_empty(self) -> bool:
        return not self._stored and not self._bytes_waiting

    @property
    def is_writing(self) -> bool:
        return self._bytes_waiting > 0

    def add(self, record: object, done: Done) -> None:
        """Keep a record (what orjson can encode); `done` is told whether it is on disk."""
        body = orjson.dumps(record)
        line = b"%08x %d %b\n" % (crc32(body), len(body), body)
        if self._lock is None or self.size + len(line) > self._bytes_max:
            tell(done, False)
            return
        if not self._bytes_waiting:
            self._writer = asyncio.get_running_loop().create_task(self._write_all())
        self._bytes_waiting += len(line)
        self._queue.append((line, done))

    async def _write_all(self) -> None:
        while self._queue:
            queue, self._queue = self._queue, []
            data = b"".join(line for line, _ in queue)
            if self._segment is None or self._stored.get(self._segment, 0) >= _SEGMENT_BYTES:
                self._segment = self._new_segment()
            segment = self._written_to = self._segment
            kept, size = await asyncio.to_thread(_append, segment, data, self._stored.get(segment, 0))
            if not kept:
                self._segment = None  # what is torn there is never followed by good lines
            if size:
                self._stored[segment] = size
            self._written_to = None
            self._bytes_waiting -= len(data)
            for _, done in queue:
                tell(done, kept)

    def _new_segment(self) -> Path:
        while (path := self._folder / f"{next(self._numbers):08d}.spool").exists():
            pass
        return path

    async def adopt(self) -> None:
        """Take over what dead processes have left."""
        self._stored |= await asyncio.to_thread(self._take_over)

    def _take_over(self) -> dict[Path, int]:
        adopted = {}
        for folder in sorted(self._root.iterdir()):
            if folder == self._folder or folder.name == "damaged" or not folder.is_dir():
                continue
            lock = _lock(folder)
            if lock is None:
                continue
            for segment in sorted(folder.glob("*.spool")):
                adopted_as = self._new_segment()
                segment.rename(adopted_as)
                failpoint("spool_after_rename")
                adopted[adopted_as] = adopted_as.stat().st_size
            with suppress(OSError):  # a process of this name is just starting: the folder is its own again
                (folder / "lock").unlink()
                folder.rmdir()
            os.close(lock)
        return adopted

    async def drain(self, send: Send) -> bool:
        """Hand every record to `send`, oldest first; True when all are sent. `send` answers whether they were taken;
        those that were not are handed to it again by the next call."""
        while self._stored:
            segment = min(self._stored, key=lambda path: path.stat().st_mtime_ns)
            if segment == self._segment:
                self._segment = None
            while segment == self._written_to:
                await asyncio.sleep(0.005)
            is_first_try = segment not in self._sent
            records = await asyncio.to_thread(self._read, segment, is_first_try)
            for start in range(self._sent.setdefault(segment, 0), len(records), _RECORDS_A_DRAIN_STEP):
                self._sent[segment] = start
                if not await send(records[start : start + _RECORDS_A_DRAIN_STEP]):
                    return False
            failpoint("spool_before_remove")
            segment.unlink()
            del self._stored[segment], self._sent[segment]
        return True

    def _read(self, segment: Path, keeps_damaged: bool) -> list[Any]:
        lines = segment.read_bytes().split(b"\n")
        torn = lines.pop()  # what follows the last newline; empty in a whole file
        records = [read_record(line) for line in lines]
        damaged = [line for line, record in zip(lines, records, strict=True) if record is None]
        if keeps_damaged and (damaged or torn):
            self.damaged += len(damaged)
            self.set_aside([*damaged, torn])
        return [record for record in records if record is not None]

    def set_aside(self, lines: Sequence[bytes]) -> None:
        """Keep lines that cannot be used, for a person to look at."""
        logger().error("spooled records set aside", count=len(lines), folder=str(self._root / "damaged"))
        (self._root / "damaged").mkdir(exist_ok=True)
        with (self._root / "damaged" / f"{self._folder.name}.txt").open("ab") as file:
            file.writelines(line + b"\n" for line in lines)


def tell(done: Done, is_durable: bool) -> None:
    """Call `done`; one that fails (its reader has gone) takes nothing from the others of its batch."""
    try:
        done(is_durable)
    except Exception:
        logger().error("answering failed", exc_info=True)


def read_record(line: bytes) -> Any | None:
    """The record of a line, or None where the line is not whole."""
    checksum, _, rest = line.partition(b" ")
    length, _, body = rest.partition(b" ")
    if length != b"%d" % len(body) or checksum != b"%08x" % crc32(body):
        return None
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _append(path: Path, data: bytes, size: int) -> tuple[bool, int]:
    """Append to a file of this size; whether all is on disk, and the size after. Never raises OSError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    except OSError:
        return False, size
    try:
        written = 0
        while written < len(data):
            written += os.write(descriptor, data[written:])
        os.fsync(descriptor)
        if not size:
            _sync_folder(path.parent)
        return True, size + len(data)
    except OSError as error:
        logger().error("spooling failed", error=str(error))
        with suppress(OSError):  # a full disk gets its space back
            os.ftruncate(descriptor, size)
            if not size:
                path.unlink()
                return False, 0
        return False, os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def _own(folder: Path) -> int:
    """Make the folder and hold it for this process's life; an adopter may hold or remove it for a moment."""
    for _ in range(_OWN_TRIES):
        folder.mkdir(parents=True, exist_ok=True)
        lock = _lock(folder)
        if lock is not None:
            _sync_folder(folder.parent)
            return lock
        time.sleep(0.01)
    raise OSError(f"{folder}: another process has this spool")


def _lock(folder: Path) -> int | None:
    """Hold the folder; None where another process does, or has just removed it."""
    path = folder / "lock"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
