"""The spool: what it says it keeps is on disk, whole, in order, and comes out again, whoever dies when."""

import asyncio
import errno
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.clicks import until
from tests.system import ROOT
from tracker import spool as spool_module
from tracker.spool import Spool, read_record, tell

MANY = 10_000_000


def run(test: Callable[[], Awaitable[Any]]) -> None:
    async def whole() -> None:
        await test()

    asyncio.run(whole())


async def add(spool: Spool, *records: object) -> list[bool]:
    """Add records at once; for each whether it is kept."""
    told: list[asyncio.Future[bool]] = [asyncio.get_running_loop().create_future() for _ in records]
    for record, future in zip(records, told, strict=True):
        spool.add(record, future.set_result)
    return list(await asyncio.gather(*told))


async def drained(spool: Spool) -> list[Any]:
    """Everything in it, in order."""
    got: list[Any] = []

    async def send(records: list[Any]) -> bool:
        got.extend(records)
        return True

    assert await spool.drain(send)
    return got


def leave(spool: Spool) -> None:
    """Let go of the spool as a dying process does."""
    os.close(spool._lock)


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.spool"))


def test_records_come_out_as_they_went_in(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "0-1", MANY)
    records = [["event", n, "täxt\nwith break", None] for n in range(1000)]

    async def test() -> None:
        assert spool.is_empty
        assert await add(spool, *records) == [True] * 1000
        assert not spool.is_empty and spool.size == files(tmp_path)[0].stat().st_size
        assert await drained(spool) == records
        assert spool.is_empty and spool.size == 0 and files(tmp_path) == []

    run(test)


def test_records_that_come_together_share_a_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool, syncs = Spool(tmp_path, "0-1", MANY), []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (syncs.append(descriptor), fsync(descriptor)))
    run(lambda: add(spool, *range(500)))
    assert len(syncs) <= 3  # the file, and once its folder


def test_nobody_is_told_before_the_disk_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool, seen = Spool(tmp_path, "0-1", MANY), []

    def sync(descriptor: int) -> None:
        time.sleep(0.02)
        seen.append(Path(f"/proc/self/fd/{descriptor}").resolve().name)

    monkeypatch.setattr(os, "fsync", sync)

    async def test() -> None:
        spool.add(1, lambda kept: seen.append(f"told {kept}"))
        assert seen == [] and spool.is_writing
        await until(lambda: not spool.is_writing)

    run(test)
    assert seen == ["00000001.spool", "0-1", "told True"]  # the file, and the folder that names it


def test_beyond_its_bytes_nothing_is_taken_until_there_is_room(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "0-1", 1000)

    async def test() -> None:
        kept = await add(spool, *("x" * 85 for _ in range(12)))  # 100 bytes a line
        assert kept == [True] * 10 + [False] * 2
        assert spool.size == 1000
        assert len(await drained(spool)) == 10
        assert await add(spool, "y") == [True]

    run(test)


def test_a_drain_that_stops_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """What the log has taken already is not sent again and again while it refuses the rest."""
    spool = Spool(tmp_path, "0-1", MANY)

    async def test() -> None:
        await add(spool, *range(600))
        got: list[Any] = []

        async def send(records: list[Any]) -> bool:
            if len(got) >= 256:
                return False
            got.extend(records)
            return True

        assert not await spool.drain(send)
        assert not await spool.drain(send)
        assert not spool.is_empty and got == list(range(256))
        assert got + await drained(spool) == list(range(600))

    run(test)


def test_a_spool_in_many_segments_comes_out_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "_SEGMENT_BYTES", 500)
    spool = Spool(tmp_path, "0-1", MANY)

    async def test() -> None:
        for n in range(60):
            await add(spool, f"record {n}")
        assert len(files(tmp_path)) > 2
        assert spool.size == sum(path.stat().st_size for path in files(tmp_path))
        assert await drained(spool) == [f"record {n}" for n in range(60)]

    run(test)


def test_what_is_added_during_a_drain_comes_out_too(tmp_path: Path) -> None:
    """Even if there is not a moment without a write: the drain waits for the write to its own segment only."""
    spool = Spool(tmp_path, "0-1", MANY)

    async def test() -> None:
        await add(spool, 0)
        busy, added = True, [0]

        async def keep_adding() -> None:
            while busy:
                added.append(len(added))
                spool.add(added[-1], lambda _: None)
                await asyncio.sleep(0)

        adding = asyncio.create_task(keep_adding())
        await asyncio.sleep(0.05)
        got: list[Any] = []

        async def send(records: list[Any]) -> bool:
            nonlocal busy
            got.extend(records)
            busy = busy and len(got) < 100
            return True

        async with asyncio.timeout(5):
            while not await spool.drain(send) or busy or spool.is_writing:
                await asyncio.sleep(0.001)
        await adding
        assert sorted(got + await drained(spool)) == added

    run(test)


@pytest.mark.parametrize(
    "line",
    [b"", b"x", b"00000000 3 123", b"884863d2 4 123", b"884863d2 x 123", b"884863d2 3 124", b"884863D2 3 123"],
)
def test_a_line_that_is_not_whole_is_no_record(line: bytes) -> None:
    assert read_record(line) is None


def test_a_torn_end_is_dropped_and_a_damaged_line_set_aside(tmp_path: Path) -> None:
    """The others come out; the damage is counted once, however often the drain is tried."""
    spool = Spool(tmp_path, "0-1", MANY)
    run(lambda: add(spool, "one", "two", "three"))
    leave(spool)
    (path,) = files(tmp_path)
    path.write_bytes(path.read_bytes().replace(b'"two"', b'"twO"') + b"0badc0de 12 {")
    spool = Spool(tmp_path, "0-2", MANY)

    async def test() -> None:
        async def refuse(_: list[Any]) -> bool:
            return False

        assert not await spool.drain(refuse)
        assert await drained(spool) == ["one", "three"]

    run(test)
    assert spool.damaged == 1
    (aside,) = (tmp_path / "damaged").iterdir()
    assert aside.read_bytes().splitlines()[0].endswith(b'"twO"') and b"0badc0de 12 {" in aside.read_bytes()


def test_the_spool_of_a_dead_process_is_adopted_oldest_first(tmp_path: Path) -> None:
    """By a new process, and by one that runs."""
    alive = Spool(tmp_path, "1-1", MANY)
    dead = [Spool(tmp_path, f"0-{number}", MANY) for number in range(3)]
    for number, spool in enumerate(dead):
        run(lambda spool=spool, number=number: add(spool, f"dead {number}"))
        time.sleep(0.01)
    for spool in dead:
        leave(spool)
    successor = Spool(tmp_path, "0-9", MANY)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0-9", "1-1"]
    assert successor.size == sum(path.stat().st_size for path in files(tmp_path))

    async def test() -> None:
        assert await add(successor, "mine") == [True]
        assert await drained(successor) == ["dead 0", "dead 1", "dead 2", "mine"]
        assert alive.is_empty
        await add(successor, "last words")
        leave(successor)
        await alive.adopt()
        assert await drained(alive) == ["last words"]

    run(test)


def test_the_spool_of_a_living_process_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "_OWN_TRIES", 2)
    first = Spool(tmp_path, "0-1", MANY)
    run(lambda: add(first, 1))
    assert Spool(tmp_path, "0-2", MANY).is_empty
    with pytest.raises(OSError, match="another process"):
        Spool(tmp_path, "0-1", MANY)
    assert not first.is_empty


def test_a_successor_of_the_same_name_writes_no_good_line_behind_a_torn_one(tmp_path: Path) -> None:
    """In a container a process often has its predecessor's id."""
    spool = Spool(tmp_path, "0-1", MANY)
    run(lambda: add(spool, "one"))
    leave(spool)
    (path,) = files(tmp_path)
    path.write_bytes(path.read_bytes() + b"0badc0de 12 {")
    spool = Spool(tmp_path, "0-1", MANY)

    async def test() -> None:
        assert await add(spool, "two") == [True]
        assert await drained(spool) == ["one", "two"]

    run(test)


def test_adopting_again_and_again_does_not_lengthen_names(tmp_path: Path) -> None:
    """A worker that dies at every start while the log is down must go on starting."""
    for number in range(40):
        spool = Spool(tmp_path, f"0-{100_000 + number}", MANY)
        run(lambda spool=spool, number=number: add(spool, number))
        leave(spool)
    spool = Spool(tmp_path, "0-1", MANY)
    assert max(len(path.name) for path in files(tmp_path)) < 20
    got: list[Any] = []

    async def test() -> None:
        got.extend(await drained(spool))

    run(test)
    assert got == list(range(40))


def test_a_folder_that_is_adopted_while_its_process_starts_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers start at once: the one adopts the other's folder before that has its lock."""
    flock, stolen = fcntl.flock, []

    def steal(descriptor: int, operation: int) -> None:
        if not stolen:
            stolen.append(descriptor)
            (tmp_path / "0-1" / "lock").unlink()
            (tmp_path / "0-1").rmdir()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", steal)
    spool = Spool(tmp_path, "0-1", MANY)
    assert stolen
    run(lambda: add(spool, 1))
    assert len(files(tmp_path)) == 1


def test_a_process_that_starts_on_a_full_disk_takes_nothing_until_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must start all the same: the log takes its clicks, and without the log readers are still redirected."""
    Spool(tmp_path, "0-1", MANY)  # left behind
    own = spool_module._own

    def full(_: Path) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spool_module, "_own", full)
    spool = Spool(tmp_path, "0-2", MANY)
    assert not spool.has_begun and spool.is_empty
    assert asyncio.run(add(spool, "lost")) == [False]
    monkeypatch.setattr(spool_module, "_own", own)
    spool.begin()
    assert spool.has_begun and asyncio.run(add(spool, "kept")) == [True]
    assert asyncio.run(drained(spool)) == ["kept"]
    monkeypatch.setattr(spool_module, "_own", lambda _: (_ for _ in ()).throw(PermissionError(errno.EACCES, "no")))
    with pytest.raises(PermissionError):
        Spool(tmp_path, "0-3", MANY)


def test_one_callback_that_fails_takes_nothing_from_the_others(tmp_path: Path) -> None:
    """A reader has gone: the others of the batch are answered, and the spool goes on."""
    spool, told = Spool(tmp_path, "0-1", MANY), []

    def fail(_: bool) -> None:
        raise RuntimeError

    async def test() -> None:
        spool.add(1, fail)
        spool.add(2, told.append)
        await until(lambda: told == [True])
        assert await add(spool, 3) == [True]

    run(test)
    tell(fail, False)


FULL = """
import asyncio, resource, sys
from pathlib import Path
from tracker.spool import Spool

async def main():
    spool = Spool(Path(sys.argv[1]), "0-1", 10**9)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
    kept = []
    for n in range(60):
        future = asyncio.get_running_loop().create_future()
        spool.add("%03d" % n + "x" * 82, future.set_result)  # 100 bytes a line
        kept.append(await future)
        size = sum(path.stat().st_size for path in Path(sys.argv[1]).glob("*/*.spool"))
        assert spool.size == size, (spool.size, size)
    big = asyncio.get_running_loop().create_future()
    spool.add("y" * 5000, big.set_result)
    assert not await big
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    future = asyncio.get_running_loop().create_future()
    spool.add("after", future.set_result)
    assert await future
    got = []
    async def send(records):
        got.extend(records)
        return True
    assert await spool.drain(send)
    told = ["%03d" % n + "x" * 82 for n, one in enumerate(kept) if one] + ["after"]
    assert got == told, (len(got), len(told))
    assert spool.size == 0 and spool.damaged == 0 and not list(Path(sys.argv[1]).glob("damaged/*"))
    assert kept.count(False) in (1, 2, 3), kept  # one line at the end of each full file

asyncio.run(main())
"""


def test_a_full_disk_keeps_what_was_kept_and_says_what_was_not(tmp_path: Path) -> None:
    """A write that fails in the middle leaves no torn line, gives its space back, and the next one is tried anew."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", FULL, tmp_path], env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_disk_that_takes_nothing_is_said_and_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No space for a single byte, or a file that cannot be made: no files are left behind, however often."""
    spool = Spool(tmp_path, "0-1", MANY)
    write, is_full = os.write, True

    def refuse(descriptor: int, data: bytes) -> int:
        if is_full:
            raise OSError(28, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", refuse)

    async def test() -> None:
        nonlocal is_full
        for _ in range(20):
            assert await add(spool, "lost") == [False]
        assert spool.is_empty and files(tmp_path) == []
        is_full = False
        assert await add(spool, "kept") == [True]
        assert await drained(spool) == ["kept"]

    run(test)
