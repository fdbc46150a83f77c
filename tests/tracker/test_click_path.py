"""How much of the code a click runs through: what somebody has to read who wants to know what happens to it."""

import asyncio
import sys
from collections import defaultdict
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import tracker
from schemas.compiled import compiled
from tests.connection import connections
from tests.journey import Story
from tests.log_server import LogServer
from tests.system import PERSON, ROOT

REQUEST = (
    "GET /c/boots HTTP/1.1\r\nHost: localhost\r\n"
    f"User-Agent: {PERSON}\r\nReferer: https://blog.example/\r\n"
    "Sec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\n\r\n"
).encode()


class LinesRun:
    """The lines of the tracker's files that run meanwhile, by file; everything in this thread."""

    def __init__(self) -> None:
        self.by_file: defaultdict[str, set[int]] = defaultdict(set)
        self._folder = Path(tracker.__file__).parent

    def __enter__(self) -> "LinesRun":
        self._before = sys.gettrace()
        sys.settrace(self._called)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _called(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        path = Path(frame.f_code.co_filename)
        if path.parent != self._folder:
            return None

        def ran(frame: FrameType, _event: str, _argument: Any) -> Any:
            self.by_file[path.name].add(frame.f_lineno)
            return ran

        return ran(frame, "", None)


async def _lines_of_a_click(story: Story) -> LinesRun:
    """Of the second click on a connection: the first one makes what is remembered of link and browser."""
    server = await asyncio.get_running_loop().create_server(connections(story.redirect.click), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())

    async def click() -> bytes:
        writer.write(REQUEST)
        return await reader.readuntil(b"\r\n\r\n")

    try:
        await click()
        with LinesRun() as lines:
            answer = await asyncio.create_task(click())
    finally:
        writer.close()
        server.close()
    assert answer.startswith(b"HTTP/1.1 302 ")
    assert b"\r\nset-cookie: lc=" in answer
    return lines


@pytest.mark.skipif(compiled() is not None, reason="what is compiled has no lines")
def test_a_click_is_under_300_lines_from_socket_to_socket(valkey: LogServer, tmp_path: Path) -> None:
    with Story(str(valkey.socket), tmp_path) as story:
        story.applies((ROOT / "demo" / "entities.toml").read_text())
        lines = story.run(_lines_of_a_click(story))
        assert story.counters["clicks"] == 2
        assert story.counters["clicks_unrecorded"] == 0
    counted = {name: len(numbers) for name, numbers in lines.by_file.items()}
    assert {"server.py", "reader.py", "redirect.py", "click_id.py", "shard.py", "resp.py", "short.py"} <= set(counted)
    assert sum(counted.values()) < 300, counted
