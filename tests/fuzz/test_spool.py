"""Spool files: whatever happens to one, the drain goes on, whole records come out in order, the rest is kept."""

import asyncio
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from tests.clicks import LIMITS
from tests.fuzz.budget import examples
from tests.fuzz.hostile import damaged, json_values
from tracker import log as log_module
from tracker.log import Log
from tracker.shard import Event
from tracker.spool import Spool, read_record

RECORDS: list[Any] = [
    ["event", 0, "{}", "", "", 0, 0, False],
    ["report", {"report": {}, "params": {}}],
    {"n": "ü\n"},
    7,
]


async def written(folder: Path, records: list[Any]) -> bytes:
    """A spool file as the spool itself writes it."""
    spool, told = Spool(folder, "dead", 10**9), []
    for record in records:
        spool.add(record, told.append)
    while spool.is_writing:
        await asyncio.sleep(0)
    assert told == [True] * len(records)
    (path,) = folder.glob("dead/*.spool")
    return path.read_bytes()


with TemporaryDirectory() as name:
    WHOLE = asyncio.run(written(Path(name), RECORDS * 3))
LINES = WHOLE.splitlines()


def drained(data: bytes) -> tuple[list[Any], bytes]:
    """What comes out of a spool with such a file, and what is set aside."""

    async def drain(folder: Path) -> tuple[list[Any], bytes]:
        (folder / "dead").mkdir()
        (folder / "dead" / "00000001.spool").write_bytes(data)
        spool, got = Spool(folder, "mine", 10**9), list[Any]()

        async def send(records: list[Any]) -> bool:
            got.extend(records)
            return True

        assert await spool.drain(send) and spool.is_empty
        return got, b"".join(path.read_bytes() for path in folder.glob("damaged/*"))

    with TemporaryDirectory() as folder:
        return asyncio.run(drain(Path(folder)))


@examples(40)
@given(damaged(WHOLE))
def test_a_damaged_file_is_drained(data: bytes) -> None:
    got, aside = drained(data)
    *lines, torn = data.split(b"\n")
    assert got == [read_record(line) for line in lines if line in LINES]
    assert aside == b"".join(line + b"\n" for line in [*(x for x in lines if x not in LINES), torn]) or not aside
    assert bool(aside) == (bool(torn) or any(line not in LINES for line in lines))


@examples(40)
@given(st.lists(json_values | st.just(RECORDS[0]), max_size=6))
def test_records_of_any_shape_stop_nothing(records: list[Any]) -> None:
    """Whole by their checksum, and nothing that this version of the code has written."""

    async def mend(folder: Path) -> None:
        spool = Spool(folder, "mine", 10**9)
        log = Log("redis://127.0.0.1:1", 1, LIMITS, spool, lambda: True, Counter())
        taken: list[list[Event]] = []

        async def replay(_shard: Any, events: list[Event]) -> bool:
            taken.append(events)
            return True

        told: list[bool] = []
        for record in records:
            spool.add(record, told.append)
        while len(told) < len(records):
            await asyncio.sleep(0)

        async def submit(_: Any) -> bool:
            return True

        with patch.object(log_module, "replay", replay):
            await log._drain(submit)
        assert spool.is_empty
        count = sum(map(len, taken))
        assert count >= records.count(RECORDS[0])
        assert spool.damaged + count + sum(r[:1] == ["report"] for r in records if isinstance(r, list)) >= len(records)

    with TemporaryDirectory() as folder:
        asyncio.run(mend(Path(folder)))
