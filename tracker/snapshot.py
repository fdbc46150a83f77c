"""The snapshot: every entity in one file on disk, from which a tracker starts, log or no log.

First `<position> <stream id> <crc32 of what follows> sorted`, filled up to 128 bytes; then for each entity a line of
`type:id`, tab and record, in the order of their bytes. A million links are 150 MB, of which a tracker needs those that
are clicked: links stay in the file, mapped into memory that all trackers of a machine share, and are found by halving
what lies between two marks, 8 KB apart. All else is read at once. The file is replaced and never changed: who has
opened it keeps what he has. Called by app.py.
"""

import heapq
import mmap
import os
import time
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

from schemas.projection import Frozen, Projection

_HEAD_BYTES = 128
_LINK = b"\nlink:"
_MARK_BYTES = 8 << 10
_SORTED_AT_ONCE = 5000
_GIVE_WAY_BYTES = 32 << 10
_GIVE_WAY_SECONDS = 0.0002
_DURABLE_BYTES = 8 << 20


def snapshot_path(data_dir: Path) -> Path:
    """Where the trackers of a machine write the projection down."""
    return data_dir / "links" / "links.snapshot"


class StoredLinks:
    """The links of a snapshot. A line's place is that of the line end before it."""

    def __init__(self, text: mmap.mmap) -> None:
        self._text = text
        self._end = len(text) - 1
        self._start = self._seek(_LINK, _HEAD_BYTES - 1)
        self._end = self._seek(b"\nlink;", self._start)
        marks = range(self._start, self._end, _MARK_BYTES)
        self._places = [text.rfind(b"\n", self._start, mark + 1) for mark in marks]
        self._marks = [text[place : text.find(b"\t", place)] + b"\t" for place in self._places]

    def get(self, id: str) -> bytes | None:
        """The record of one link, or None."""
        wanted = _LINK + id.encode() + b"\t"
        mark = bisect_right(self._marks, wanted)
        if not mark:
            return None
        place = self._seek(wanted, self._places[mark - 1], *self._places[mark : mark + 1])
        if not self._begins(place, wanted):
            return None
        return self._text[place + len(wanted) : self._text.find(b"\n", place + 1)]

    def items(self) -> Iterator[tuple[str, bytes]]:
        """Every link's id and record."""
        return self._lines(self._start, self._end, len(_LINK) - 1)

    def others(self) -> Iterator[tuple[str, bytes]]:
        """Every entity that is no link, as `type:id` and record."""
        yield from self._lines(_HEAD_BYTES - 1, self._start, 0)
        yield from self._lines(self._end, len(self._text) - 1, 0)

    def with_changed(self, changed: Iterable[tuple[str, bytes]]) -> Iterator[bytes | memoryview]:
        """The lines of all links, where those that have changed come in the order of their ids."""
        text, place = memoryview(self._text), self._start
        for id, data in changed:
            wanted = _LINK + id.encode() + b"\t"
            behind = self._seek(wanted, place)
            yield text[place + 1 : behind + 1]
            yield wanted[1:] + data + b"\n"
            place = self._text.find(b"\n", behind + 1) if self._begins(behind, wanted) else behind
        yield text[place + 1 : self._end + 1]

    def _seek(self, wanted: bytes, low: int, high: int | None = None) -> int:
        """The place of the first line, from the one at `low` on, that is not before `wanted`; `high`, which is the end
        unless given, if all are."""
        text, high = self._text, self._end if high is None else high
        while low < high:
            middle = text.rfind(b"\n", low, (low + high) // 2 + 1)
            if text[middle : middle + len(wanted)] < wanted:
                low = text.find(b"\n", middle + 1)
            else:
                high = middle
        return low

    def _begins(self, place: int, wanted: bytes) -> bool:
        return place < self._end and self._text[place : place + len(wanted)] == wanted

    def _lines(self, place: int, end: int, skipped: int) -> Iterator[tuple[str, bytes]]:
        while place < end:
            behind = self._text.find(b"\n", place + 1)
            key, _, data = self._text[place + 1 + skipped : behind].partition(b"\t")
            yield key.decode(), data
            place = behind


def load_snapshot(path: Path) -> Projection:
    """The projection of a snapshot; an empty one where there is none, or none that is whole."""
    projection = Projection()
    try:
        with path.open("rb") as file:
            text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (FileNotFoundError, ValueError):  # an empty file cannot be mapped
        return projection
    end = text.find(b"\n")
    words = text[: max(0, end)].decode("ascii", "replace").split()
    if len(words) not in (3, 4) or words[2] != f"{crc32(memoryview(text)[end + 1 :]):08x}":
        return projection
    mark = " ".join(words[:2])
    if words[3:] != ["sorted"] or end != _HEAD_BYTES - 1 or text[-1:] != b"\n":
        # As releases before 0.3 wrote it: in no order.
        pairs = (line.partition(b"\t") for line in text[end + 1 :].split(b"\n") if line)
        projection.take_all(mark, ((key.decode(), data) for key, _, data in pairs))
        return projection
    links = StoredLinks(text)
    projection.take_all(mark, links.others(), links)
    return projection


def save_snapshot(path: Path, frozen: Frozen) -> None:
    """Write the projection down beside the running system, whole or not at all. For a thread: it gives way to others,
    and the log server waits for no more than 8 MB that are made durable before its own."""
    draft = path.with_suffix(".draft")
    path.parent.mkdir(parents=True, exist_ok=True)
    with draft.open("wb", buffering=1 << 20) as file:
        file.write(bytes(_HEAD_BYTES))
        checksum = _write(file, _lines(frozen))
        file.seek(0)
        file.write(f"{frozen.mark} {checksum:08x} sorted".ljust(_HEAD_BYTES - 1).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _lines(frozen: Frozen) -> Iterator[bytes | memoryview]:
    """The lines of all entities, in order."""
    stored = frozen.links
    for kind in sorted({*frozen.records, "link"}, key=lambda kind: kind + ":"):
        changed = _in_order(frozen.records.get(kind, {}))
        if kind == "link" and stored is not None:
            assert isinstance(stored, StoredLinks)
            yield from stored.with_changed(changed)
        else:
            yield from (b"%b:%b\t%b\n" % (kind.encode(), id.encode(), data) for id, data in changed)


def _in_order(records: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """By id. Not sorted at once: a million would hold up every other thread for a second."""
    rest, parts = iter(records.items()), []
    while part := sorted(islice(rest, _SORTED_AT_ONCE)):
        parts.append(part)
    return heapq.merge(*parts)


def _write(file: BinaryIO, pieces: Iterator[bytes | memoryview]) -> int:
    """Write and make durable in parts; the checksum of it all."""
    checksum, since_way, since_durable = 0, 0, 0
    for piece in pieces:
        for start in range(0, len(piece), _DURABLE_BYTES):
            part = piece[start : start + _DURABLE_BYTES]
            checksum = crc32(part, checksum)
            file.write(part)
            since_way += len(part)
            since_durable += len(part)
            if since_way > _GIVE_WAY_BYTES:
                since_way = 0
                time.sleep(_GIVE_WAY_SECONDS)
            if since_durable > _DURABLE_BYTES:
                since_durable = 0
                file.flush()
                os.fdatasync(file.fileno())
    return checksum
