"""The spool: where events go when the log cannot take them. Append-only, checksummed, fsynced, on local disk.

A record is one line: CRC-32 and length of its JSON, then the JSON. Records gather while a write is under way and
share its fsync (in a thread: a slow disk must not stop the redirects). A folder belongs to one process by a lock; the
folders of dead ones are adopted. Segments are drained oldest first and removed only when the log has all of them, so
a crash replays some records: replay is idempotent (append_clicks.lua, conversions). A torn last line was never
acknowledged and is dropped; a damaged one is kept in `damaged/` and counted.
"""

import asyncio
import fcntl
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import orjson

Done = Callable[[bool], None]
Send = Callable[[list[Any]], Awaitable[bool]]
_RECORDS_A_DRAIN_STEP = 256


class Spool:
    """One process's spool under `folder`; `name` tells it from the others."""

    def __init__(self, folder: Path, name: str, bytes_max: int) -> None:
        self._root = folder
        self._folder = folder / name
        self._bytes_max = bytes_max
        self._segment: Path | None = None
        self._segments_made = 0
        self._queue: list[tuple[bytes, Done]] = []
        self._writing = False
        self.bytes = 0
        self.damaged = 0
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self._folder)
        if self._lock is None:
            raise OSError(f"{self._folder}: another process has this spool")
        self.adopt()

    @property
    def is_empty(self) -> bool:
        return self.bytes == 0 and not self._queue and not self._writing

    @property
    def is_writing(self) -> bool:
        return self._writing

    def add(self, record: object, done: Done) -> None:
        """Keep a record (what orjson can encode); `done` is told whether it is on disk."""
        body = orjson.dumps(record)
        line = b"%08x %d %b\n" % (crc32(body), len(body), body)
        if self.bytes + len(line) > self._bytes_max:
            done(False)
            return
        self.bytes += len(line)
        self._queue.append((line, done))
        if not self._writing:
            self._writing = True
            asyncio.get_running_loop().create_task(self._write_all())

    async def _write_all(self) -> None:
        loop = asyncio.get_running_loop()
        while self._queue:
            queue, self._queue = self._queue, []
            data = b"".join(line for line, _ in queue)
            if self._segment is None:
                self._segments_made += 1
                self._segment = self._folder / f"{os.getpid()}-{self._segments_made:08d}.spool"
            try:
                await loop.run_in_executor(None, _append, self._segment, data)
                kept = True
            except OSError:
                kept = False
                self._segment = None  # what is torn there is never followed by good lines
                self.bytes -= len(data)
            for _, done in queue:
                done(kept)
        self._writing = False

    def adopt(self) -> None:
        """Take over what dead processes left, and count what is there."""
        for folder in sorted(self._root.iterdir()):
            if folder == self._folder or folder.name == "damaged" or not folder.is_dir():
                continue
            lock = _lock(folder)
            if lock is None:
                continue
            for segment in sorted(folder.glob("*.spool")):
                segment.rename(self._folder / f"{folder.name}-{segment.name}")
            (folder / "lock").unlink()
            folder.rmdir()
            os.close(lock)
        self.bytes = sum(segment.stat().st_size for segment in self._folder.glob("*.spool"))

    async def drain(self, send: Send) -> bool:
        """Hand every record to `send`, oldest first; True when all are sent. `send` answers whether it was taken."""
        while segments := sorted(self._folder.glob("*.spool"), key=lambda path: path.stat().st_mtime_ns):
            segment = segments[0]
            if segment == self._segment:
                self._segment = None
                while self._writing:
                    await asyncio.sleep(0.005)
            size = segment.stat().st_size
            records = list(self._read(segment))
            for start in range(0, len(records), _RECORDS_A_DRAIN_STEP):
                if not await send(records[start : start + _RECORDS_A_DRAIN_STEP]):
                    return False
            segment.unlink()
            self.bytes = max(0, self.bytes - size)
        return True

    def _read(self, segment: Path) -> Iterator[Any]:
        lines = segment.read_bytes().split(b"\n")
        torn = lines.pop()  # what follows the last newline; empty in a whole file
        damaged = [line for line in lines if (record := read_record(line)) is None]
        if damaged or torn:
            self.damaged += len(damaged)
            (self._root / "damaged").mkdir(exist_ok=True)
            (self._root / "damaged" / segment.name).write_bytes(b"\n".join([*damaged, torn]))
        for line in lines:
            if (record := read_record(line)) is not None:
                yield record


def read_record(line: bytes) -> Any | None:
    """The record of a line, or None where the line is not whole."""
    checksum, _, rest = line.partition(b" ")
    length, _, body = rest.partition(b" ")
    if not length.isdigit() or int(length) != len(body) or checksum != b"%08x" % crc32(body):
        return None
    return orjson.loads(body)


def _append(path: Path, data: bytes) -> None:
    is_new = not path.exists()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        written = 0
        while written < len(data):
            written += os.write(descriptor, data[written:])
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if is_new:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _lock(folder: Path) -> int | None:
    """Hold the folder for this process's life; None where another process does."""
    try:
        descriptor = os.open(folder / "lock", os.O_WRONLY | os.O_CREAT, 0o600)
    except FileNotFoundError:
        return None  # adopted by another process between listing and locking
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
