"""From entries of the log to rows of the tables: text is spliced in, nothing is parsed. Pure but for two memos.

A line of the log is already ClickHouse's JSONEachRow. What the edge could not know or had no time for is put into it
here: where in the log the row stood, when it was appended, the country of the address, device, system and browser of
the user agent. Called by the loader.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

import orjson

ID_OF = {
    "clicks": "click_id",
    "refusals": "refusal_id",
    "reports": "report_id",
    "conversion_versions": "concat(conversion_id, '/', toString(revision))",
    "credit_versions": "credit_id",
    "entity_versions": "version_id",
}
"""By table, the expression that names a row once and for all."""

BRINGS_RECEIVED_AT = frozenset(("reports", "conversion_versions"))
IGNORED_FIELDS = frozenset(("decide", "replay", "late"))


class Row(NamedTuple):
    """A line for a table, and its place in the log."""

    table: str
    line: bytes
    stream_id: str


class Splicer:
    """Completes lines. `country` maps a stored address to a code, `agent` a user agent to (device, os, browser)."""

    def __init__(
        self,
        country: Callable[[str], str],
        agent: Callable[[str], tuple[str, str, str]],
        keeps_user_agent: bool,
    ) -> None:
        self._country = lru_cache(maxsize=65_536)(lambda ip: _members(country=country(ip.decode())))
        self._agent = lru_cache(maxsize=16_384)(lambda text: self._describe(agent(orjson.loads(b'"' + text + b'"'))))
        self._keeps_user_agent = keeps_user_agent

    @staticmethod
    def _describe(agent: tuple[str, str, str]) -> bytes:
        device, os, browser = agent
        return _members(device=device, os=os, browser=browser)

    def rows(self, stream: str, epoch: int, stream_id: str, fields: Mapping[bytes, bytes]) -> Iterator[Row]:
        """The rows of one entry."""
        milliseconds = stream_id.partition("-")[0].encode()
        number = 0
        for name, value in fields.items():
            table = name.decode()
            if table in IGNORED_FIELDS:
                continue
            tail = b',"stream":"%b","epoch":%d,"stream_id":"%b.' % (
                stream.encode(),
                epoch,
                stream_id.encode(),
            )
            received = b"" if table in BRINGS_RECEIVED_AT else b',"received_at":"%b"' % milliseconds
            for line in value.split(b"\n"):
                place = f"{stream_id}.{number}"
                extra = self._sender(line) if table == "clicks" else b""
                if table == "clicks" and not self._keeps_user_agent:
                    line = _without_user_agent(line)
                yield Row(table, b'%b%b%d"%b%b}' % (line[:-1], tail, number, received, extra), place)
                number += 1

    def _sender(self, line: bytes) -> bytes:
        """Country and agent of a click: its line begins `{"ip":"…","user_agent":"…","click_id"` (redirect.py)."""
        ip_end = line.find(b'"', 7)
        agent_end = line.find(b'","click_id":', ip_end)
        if not line.startswith(b'{"ip":"') or agent_end < 0:
            return b""
        return self._country(line[7:ip_end]) + self._agent(line[ip_end + 16 : agent_end])


def row_id(row: Row) -> str:
    """The id of a row by its table's expression; the stream id where the line cannot be read."""
    try:
        values = orjson.loads(row.line)
    except orjson.JSONDecodeError:
        return row.stream_id
    if row.table == "conversion_versions":
        return f"{values.get('conversion_id')}/{values.get('revision')}"
    return str(values.get(ID_OF[row.table], row.stream_id)) if row.table in ID_OF else row.stream_id


def _members(**values: str) -> bytes:
    return b"," + orjson.dumps(values)[1:-1]


def _without_user_agent(line: bytes) -> bytes:
    start = line.find(b'"user_agent":')
    end = line.find(b'"click_id":', start)
    return line[:start] + line[end:] if 0 <= start < end else line
