"""The projection: every entity as it is now, folded from the stream of their versions. Pure.

An entry of the stream holds lines, one a version: `{version_id, at, type, id, data, position}` with the record as JSON
text in `data`; positions are gapless over the installation's life. Records stay JSON text until somebody asks, and
links may stay where they are stored, as there may be millions of them: then only those that have changed since are
kept here. Read by trackers and workers, which each do their own I/O.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import orjson

from schemas.entities import EntityKey, dump_record

LINES_FIELD = b"entity_versions"
MARK = "@"
"""Field of the projection's hash that holds `<position> <stream id>` of the last version in it."""


class Links(Protocol):
    """Links that are stored elsewhere, by id."""

    def get(self, id: str) -> bytes | None: ...
    def items(self) -> Iterator[tuple[str, bytes]]: ...


class Frozen(NamedTuple):
    """A projection as it was: records by type and id that it kept itself; the links where they were stored."""

    mark: str
    records: dict[str, dict[str, bytes]]
    links: Links | None


class Projection:
    """Current records by `type:id`; `position` counts versions, `stream_id` is the last entry taken in. Types of
    `without` are of no interest to whoever reads this one."""

    def __init__(self, without: Collection[str] = ()) -> None:
        self._without = without
        self._records: dict[str, dict[str, bytes]] = {}
        self._links: Links | None = None
        self.position = 0
        self.stream_id = "0-0"

    def take_entry(self, stream_id: str, fields: Mapping[bytes, bytes]) -> list[EntityKey]:
        """Fold in one entry of the stream; the type and id of what changed."""
        changed = []
        for line in fields.get(LINES_FIELD, b"").split(b"\n"):
            if not line:
                continue
            version = orjson.loads(line)
            self.position = int(version["position"])
            self.put(version["type"], version["id"], version["data"].encode())
            changed.append((version["type"], version["id"]))
        self.stream_id = stream_id
        return changed

    def continues(self, fields: Mapping[bytes, bytes]) -> bool:
        """Whether this entry is the next one: positions have no gaps."""
        first = orjson.loads(fields[LINES_FIELD].split(b"\n", 1)[0])
        return int(first["position"]) == self.position + 1

    def take_all(self, mark: str, records: Iterable[tuple[str, bytes]], links: Links | None = None) -> None:
        """Start anew from a stored projection and its mark; `links` stay where they are."""
        self._records, self._links = {}, links
        for key, data in records:
            kind, _, id = key.partition(":")
            self.put(kind, id, data)
        self.mark = mark

    def put(self, kind: str, id: str, data: bytes) -> None:
        """Take in one record; the mark is to be set when all are in."""
        if kind in self._without:
            return
        of_kind = self._records.get(kind)
        if of_kind is None:
            of_kind = self._records[kind] = {}
        of_kind[id] = data

    @property
    def mark(self) -> str:
        """What of the stream is in here: `<position> <stream id>`."""
        return f"{self.position} {self.stream_id}"

    @mark.setter
    def mark(self, mark: str) -> None:
        position, _, stream_id = mark.partition(" ")
        self.position, self.stream_id = int(position or 0), stream_id or "0-0"

    def get(self, kind: str, id: str) -> Any | None:
        """The record of one entity, or None."""
        data = self._records.get(kind, {}).get(id)
        if data is None and kind == "link" and self._links is not None:
            data = self._links.get(id)
        return None if data is None else orjson.loads(data)

    def all(self, kind: str) -> Iterator[Any]:
        """Every record of one type that is not stored elsewhere."""
        return (orjson.loads(data) for data in self._records.get(kind, {}).values())

    def items(self) -> Iterator[tuple[str, bytes]]:
        """Every record as `type:id` and JSON text, as `take_all` reads them."""
        for kind, of_kind in self._records.items():
            for id, data in of_kind.items():
                yield f"{kind}:{id}", data
        changed = self._records.get("link", {})
        for id, data in self._links.items() if self._links is not None else ():
            if id not in changed:
                yield f"link:{id}", data

    def freeze(self) -> Frozen:
        """What it holds now, to be written down while it changes."""
        return Frozen(self.mark, {kind: dict(of) for kind, of in self._records.items()}, self._links)


def version_line(position: int, at: int, kind: str, id: str, record: Mapping[str, Any]) -> bytes:
    """One version as a line of the stream, which is also a row of `entity_versions`."""
    data = dump_record(kind, record)
    return orjson.dumps(
        {
            "version_id": str(position),
            "at": str(at),
            "type": kind,
            "id": id,
            "data": data.decode(),
            "position": str(position),
        }
    )
