"""The projection: every entity as it is now, folded from the stream of their versions. Pure.

An entry of the stream holds lines, one a version: `{version_id, at, type, id, data, position}` with the record as JSON
text in `data`; positions are gapless over the installation's life. Records stay JSON text until somebody asks: a
million links load in a second and take 200 bytes each. Read by trackers and workers, which each do their own I/O.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from schemas.entities import EntityKey, dump_record

LINES_FIELD = b"entity_versions"
MARK = "@"
"""Field of the projection's hash that holds `<position> <stream id>` of the last version in it."""


class Projection:
    """Current records by `type:id`; `position` counts versions, `stream_id` is the last entry taken in."""

    def __init__(self) -> None:
        self._records: dict[str, dict[str, bytes]] = {}
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
            self._put(version["type"], version["id"], version["data"].encode())
            changed.append((version["type"], version["id"]))
        self.stream_id = stream_id
        return changed

    def continues(self, fields: Mapping[bytes, bytes]) -> bool:
        """Whether this entry is the next one: positions have no gaps."""
        first = orjson.loads(fields[LINES_FIELD].split(b"\n", 1)[0])
        return int(first["position"]) == self.position + 1

    def take_all(self, mark: str, records: Iterable[tuple[str, bytes]]) -> None:
        """Start anew from a stored projection and its mark."""
        position, _, stream_id = mark.partition(" ")
        self._records = {}
        for key, data in records:
            kind, _, id = key.partition(":")
            self._put(kind, id, data)
        self.position, self.stream_id = int(position or 0), stream_id or "0-0"

    def _put(self, kind: str, id: str, data: bytes) -> None:
        of_kind = self._records.get(kind)
        if of_kind is None:
            of_kind = self._records[kind] = {}
        of_kind[id] = data

    @property
    def mark(self) -> str:
        return f"{self.position} {self.stream_id}"

    def get(self, kind: str, id: str) -> Any | None:
        """The record of one entity, or None."""
        data = self._records.get(kind, {}).get(id)
        return None if data is None else orjson.loads(data)

    def all(self, kind: str) -> Iterator[Any]:
        """Every record of one type."""
        return (orjson.loads(data) for data in self._records.get(kind, {}).values())

    def items(self) -> Iterator[tuple[str, bytes]]:
        """Every record as `type:id` and JSON text, as `take_all` reads them."""
        for kind, of_kind in self._records.items():
            for id, data in list(of_kind.items()):
                yield f"{kind}:{id}", data


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
