"""From entries of the log to rows of the tables: text is spliced in, nothing is parsed. Pure but for two memos.

A line of the log is already ClickHouse's JSONEachRow. What the edge could not know or had no time for is put into it
here: where in the log the row stood, when it was appended, the country of the address, device, system and browser of
the user agent. Called by the loader.
"""

from collections.abc import Callable, Mapping
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
IGNORED_FIELDS = frozenset(("decide", "confirmed", "visitors", "touches", "gap", "replay", "late"))


class Lines(NamedTuple):
    """Completed lines for a table: each is a row, and says last where in the log it stood."""

    table: str
    lines: list[bytes]


class Splicer:
    """Completes lines. `country` maps a stored address to a code, `agent` a user agent to (device, os, browser)."""

    def __init__(
        self,
        country: Callable[[str], str],
        agent: Callable[[str], tuple[str, str, str]],
        keeps_user_agent: bool,
    ) -> None:
        self._country = lru_cache(maxsize=65_536)(lambda ip: _members(country=country(ip.decode("utf-8", "replace"))))
        self._agent = lru_cache(maxsize=16_384)(lambda text: _described(agent, text))
        self._keeps_user_agent = keeps_user_agent

    def lines(self, stream: str, epoch: int, stream_id: str, fields: Mapping[bytes, bytes]) -> list[Lines]:
        """The lines of one entry, by table."""
        found = []
        milliseconds = stream_id.partition("-")[0].encode()
        number = 0
        for name, value in fields.items():
            table = name.decode()
            if table in IGNORED_FIELDS:
                continue
            received = b"" if table in BRINGS_RECEIVED_AT else b',"received_at":"%b"' % milliseconds
            tail = b',"stream":"%b","epoch":%d%b' % (stream.encode(), epoch, received)
            place = b',"stream_id":"%b.' % stream_id.encode()
            complete = self._complete_click if table == "clicks" else _complete
            lines = value.split(b"\n")
            found.append(Lines(table, [complete(line, tail, place, n) for n, line in enumerate(lines, number)]))
            number += len(lines)
        return found

    def _complete_click(self, line: bytes, tail: bytes, place: bytes, number: int) -> bytes:
        """With country and agent: a click's line begins `{"ip":"…","user_agent":"…","click_id"` (redirect.py)."""
        ip_end = line.find(b'"', 7)
        agent_end = line.find(b'","click_id":', ip_end + 16)
        if agent_end < 0 or not (line.startswith(b'{"ip":"') and line.startswith(b'","user_agent":"', ip_end)):
            return _complete(line, tail, place, number)
        country, agent = self._country(line[7:ip_end]), self._agent(line[ip_end + 16 : agent_end])
        if not self._keeps_user_agent:
            line = line[: ip_end + 2] + line[agent_end + 2 :]
        return b'%b%b%b%b%b%d"}' % (line[:-1], country, agent, tail, place, number)


def _described(agent: Callable[[str], tuple[str, str, str]], text: bytes) -> bytes:
    """What a user agent says, which stands so in a line. What is no text the table will refuse."""
    try:
        device, os, browser = agent(orjson.loads(b'"' + text + b'"'))
    except orjson.JSONDecodeError:
        return b""
    return _members(device=device, os=os, browser=browser)


def _complete(line: bytes, tail: bytes, place: bytes, number: int) -> bytes:
    return b'%b%b%b%d"}' % (line[:-1], tail, place, number)


def place_of(line: bytes) -> str:
    """Where in the log a completed line stood: its last member, id of the entry and number in it."""
    return line[line.rindex(b'"stream_id":"') + 13 : -2].decode()


def stream_of(line: bytes) -> str:
    """The stream of a completed line."""
    return line.rpartition(b',"stream":"')[2].partition(b'"')[0].decode("utf-8", "replace")


def row_id(table: str, line: bytes) -> str:
    """The id of a row by its table's expression; its place in the log where the line cannot be read."""
    try:
        values = orjson.loads(line)
    except orjson.JSONDecodeError:
        return place_of(line)
    if table == "conversion_versions":
        return f"{values.get('conversion_id')}/{values.get('revision')}"
    id = values.get(ID_OF.get(table))
    return place_of(line) if id is None else str(id)


def _members(**values: str) -> bytes:
    given = {name: value for name, value in values.items() if value}
    return b"," + orjson.dumps(given)[1:-1] if given else b""
