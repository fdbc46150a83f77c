"""How a tracker learns of links: from the stream, from the stored projection, from a newer snapshot."""

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from console.entities import publish
from schemas import keys
from schemas.projection import MARK
from schemas.settings_fields import Data, Settings
from tests.log_server import LogServer
from tracker.app import Worker
from tracker.snapshot import save_snapshot, snapshot_path


class Rig:
    """A log server, and trackers of one machine on it."""

    def __init__(self, server: LogServer, folder: Path) -> None:
        self.server = server
        self.settings = replace(Settings(), data=Data(folder))
        self.loop = asyncio.new_event_loop()
        self.workers: list[Worker] = []

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(coroutine)

    def tracker(self) -> Worker:
        """A tracker as it is at its start."""
        self.workers.append(Worker(self.settings, self.server.url, len(self.workers), lambda: 7))
        return self.workers[-1]

    def follow(self, worker: Worker) -> None:
        while self.run(worker._follow_once()):
            pass

    def apply(self, **links: str) -> None:
        mark = (self.server.redis.hget(keys.PROJECTION, MARK) or b"").decode()
        data = {"program": "p", "affiliate": "a", "status": "active"}
        publish(
            self.server.redis,
            [{"type": "link", "id": code, "at": 1, "data": {**data, "url": url}} for code, url in links.items()],
            mark,
        )

    def write_snapshot(self, worker: Worker) -> None:
        save_snapshot(snapshot_path(self.settings.data.dir), worker.links.projection.freeze())


@pytest.fixture
def rig(valkey: LogServer, tmp_path: Path) -> Iterator[Rig]:
    made = Rig(valkey, tmp_path)
    yield made
    for worker in made.workers:
        made.run(worker.redis.aclose())
        worker.calls.close()
    made.loop.close()


def urls(worker: Worker, *codes: str) -> list[str | None]:
    found = [worker.links.projection.get("link", code) for code in codes]
    return [record and record["url"] for record in found]


def kept(worker: Worker) -> set[str]:
    """The links that a tracker keeps in its own memory."""
    return set(worker.links.projection.freeze().records.get("link", {}))


def test_a_tracker_goes_on_from_a_snapshot_and_keeps_what_came_since(rig: Rig) -> None:
    one, other = rig.tracker(), rig.tracker()
    rig.apply(a="1", b="2")
    rig.follow(one)
    rig.write_snapshot(one)
    rig.apply(b="3", c="4")
    for worker in (one, other):
        rig.follow(worker)
        assert kept(worker) == {"a", "b", "c"}
        mark = worker.links.projection.mark
        rig.run(worker._go_on_from_snapshot())
        assert (kept(worker), worker.links.projection.mark) == ({"b", "c"}, mark)
        assert urls(worker, "a", "b", "c", "d") == ["1", "3", "4", None]
    rig.apply(a="5")
    rig.follow(one)
    assert urls(one, "a", "b") == ["5", "3"]


def test_a_snapshot_ahead_of_a_tracker_waits_for_it(rig: Rig) -> None:
    """It would bring changes that the tracker's routes have not been told of."""
    one, other = rig.tracker(), rig.tracker()
    rig.apply(a="1")
    rig.follow(other)
    rig.apply(a="2")
    rig.follow(one)
    rig.write_snapshot(one)
    rig.run(other._go_on_from_snapshot())
    assert urls(other, "a") == ["1"]
    rig.follow(other)
    rig.run(other._go_on_from_snapshot())
    assert (urls(other, "a"), kept(other)) == (["2"], set())


def test_a_snapshot_that_the_stream_no_longer_reaches_is_left_alone(rig: Rig) -> None:
    one = rig.tracker()
    rig.apply(a="1")
    rig.follow(one)
    rig.write_snapshot(one)
    rig.apply(a="2")
    rig.follow(one)
    rig.server.redis.xtrim(keys.ENTITIES, maxlen=0)
    rig.run(one._go_on_from_snapshot())
    assert (urls(one, "a"), kept(one)) == (["2"], {"a"})


def test_where_the_stream_does_not_reach_back_everything_is_read_anew(rig: Rig) -> None:
    one = rig.tracker()
    rig.apply(a="1")
    rig.follow(one)
    rig.write_snapshot(one)
    rig.apply(**{f"l{n}": str(n) for n in range(1500)})
    rig.server.redis.xtrim(keys.ENTITIES, maxlen=0)
    for worker in (one, rig.tracker()):  # the second starts from the snapshot
        rig.follow(worker)
        assert urls(worker, "a", "l0", "l1499") == ["1", "0", "1499"]
        assert worker.links.projection.position == 1501
