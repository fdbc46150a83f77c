"""One connection to the log server: whole and partial replies, errors, ends."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.log_server import LogServer
from tracker import resp
from tracker.dial import ask, connect
from tracker.resp import Connection, ConnectionLost, Reply, ServerError, encode

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


def play(script: Script, test: Callable[[str], Coroutine[Any, Any, None]], folder: Path) -> None:
    """Runs a test against a server that does what the script says."""

    async def both() -> None:
        tasks = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks.append(asyncio.current_task())
            await script(reader, writer)

        path = str(folder / "s")
        server = await asyncio.start_unix_server(serve, path)
        await test(f"unix://{path}")
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(both())


REPLIES: list[tuple[bytes, Reply]] = [
    (b":12\r\n", 12),
    (b":-3\r\n", -3),
    (b"+OK\r\n", b"OK"),
    (b"$5\r\na\r\nbc\r\n", b"a\r\nbc"),
    (b"$0\r\n\r\n", b""),
    (b"*3\r\n+OK\r\n$3\r\n1-0\r\n:4\r\n", [b"OK", b"1-0", 4]),
    (b"*0\r\n", []),
    (b"*4\r\n$-1\r\n$6\r\n12\r\n45\r\n$0\r\n\r\n:7\r\n", [None, b"12\r\n45", b"", 7]),
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_replies_come_out_whole_however_the_bytes_arrive(size: int) -> None:
    connection, got = Connection(), []
    connection._waiting = [(got.append, b"")] * len(REPLIES)  # as after that many calls
    data = b"".join(wire for wire, _ in REPLIES)
    for start in range(0, len(data), size):
        connection.data_received(data[start : start + size])
    assert got == [reply for _, reply in REPLIES]


def test_of_a_long_list_nothing_is_parsed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 claims of half a megabyte took 2.2 s of processor time: longer than a call may take."""
    parsed: list[int] = []
    parse = resp._parse
    monkeypatch.setattr(resp, "_parse", lambda data, start=0: parsed.append(1) or parse(data, start))
    connection, got = Connection(), []
    connection._waiting = [(got.append, b""), (got.append, b"")]
    data = b"*200\r\n" + b"$100\r\n%b\r\n" % (b"x" * 100) * 200 + b"*2\r\n:1\r\n-OOM\r\n"
    for start in range(0, len(data), 50):
        connection.data_received(data[start : start + 50])
    assert got[0] == [b"x" * 100] * 200 and isinstance(got[1], ServerError)
    assert len(parsed) < 1000


@pytest.mark.parametrize(
    "text", ["OOM command not allowed", "MISCONF Errors writing", "READONLY You can't write", "NOSCRIPT No matching"]
)
def test_an_error_reply_is_an_exception_with_the_servers_text(text: str) -> None:
    connection, got = Connection(), []
    connection._waiting = [(got.append, b""), (got.append, b"")]
    connection.data_received(f"-{text}\r\n:1\r\n".encode())
    assert isinstance(got[0], ServerError) and str(got[0]) == text
    assert got[1] == 1


QUEUED = b"+OK\r\n+QUEUED\r\n+QUEUED\r\n"


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize(
    ("wire", "reply"),
    [
        (QUEUED + b"*2\r\n+OK\r\n:1\r\n", [b"OK", 1]),
        (QUEUED + b"*2\r\n+OK\r\n-NOSCRIPT No\r\n", "NOSCRIPT No"),
        (QUEUED + b"*-1\r\n", "the transaction was given up"),
        (b"+OK\r\n+QUEUED\r\n-OOM used\r\n-EXECABORT Discarded\r\n", "EXECABORT Discarded"),
        (b"-LOADING Wait\r\n-LOADING Wait\r\n-LOADING Wait\r\n-ERR EXEC without MULTI\r\n", "ERR EXEC without MULTI"),
    ],
)
def test_a_transaction_has_one_reply(size: int, wire: bytes, reply: Any) -> None:
    """And the call behind it gets its own."""
    connection, got = Connection(), []
    connection._waiting = [(got.append, QUEUED), (got.append, b"")]
    for start in range(0, len(wire), size):
        connection.data_received(wire[start : start + size])
    connection.data_received(b":7\r\n")
    first, second = got
    assert (str(first) if isinstance(first, ServerError) else first) == reply
    assert second == 7


def test_a_transaction_is_done_whole_or_not_at_all(log_server: LogServer) -> None:
    async def story() -> None:
        connection = await connect(log_server.url, "k", 1)
        loop = asyncio.get_running_loop()
        done, refused = loop.create_future(), loop.create_future()
        connection.transact([encode((b"SET", b"a", b"1")), encode((b"INCR", b"a"))], done.set_result)
        connection.transact([encode((b"SET", b"a", b"9")), encode((b"NOSUCH",))], refused.set_result)
        assert await done == [b"OK", 2]
        assert isinstance(await refused, ServerError)
        assert await ask(connection, b"GET", b"a") == b"2"

    asyncio.run(story())


def test_a_reply_that_nobody_waits_for_is_dropped() -> None:
    connection = Connection()
    connection.data_received(b":1\r\n")
    assert connection._buffer == b""


def test_a_call_is_an_array_of_strings() -> None:
    assert encode([b"SET", b"k\r\n", b""]) == b"*3\r\n$3\r\nSET\r\n$3\r\nk\r\n\r\n$0\r\n\r\n"


def test_calls_are_answered_in_their_order(log_server: LogServer) -> None:
    async def story() -> None:
        connection = await connect(log_server.url, "k", 1)
        assert connection.is_open
        answers = await asyncio.gather(*(ask(connection, b"INCR", b"n") for _ in range(100)))
        assert answers == list(range(1, 101))
        assert await ask(connection, b"GET", b"n") == b"100"
        assert await ask(connection, b"SET", b"long", b"x" * 300_000) == b"OK"
        assert await ask(connection, b"GET", b"long") == b"x" * 300_000
        with pytest.raises(ServerError, match=r"^WRONGTYPE"):
            await ask(connection, b"LPUSH", b"n", b"1")
        connection.abandon()
        await asyncio.sleep(0)
        assert not connection.is_open

    asyncio.run(story())


def test_a_database_can_be_chosen_and_a_password_given(log_servers: Any, tmp_path: Path) -> None:
    binary = log_servers("valkey").binary
    server = LogServer(binary, tmp_path).start()
    server.redis.config_set("requirepass", "s3cr et")

    async def story() -> None:
        url = f"unix://:s3cr%20et@{server.socket}?db=3"
        connection = await connect(url, "k", 1)
        await ask(connection, b"SET", b"k", b"v")
        assert b"db=3" in await ask(connection, b"CLIENT", b"INFO")  # type: ignore[operator]
        connection.abandon()
        with pytest.raises(ServerError, match=r"^WRONGPASS"):
            await connect(f"unix://:wrong@{server.socket}", "k", 1)

    try:
        asyncio.run(story())
    finally:
        server.stop()


def test_a_call_in_flight_learns_that_the_connection_has_ended(tmp_path: Path) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"k\r\n")
        writer.write(b":0\r\n")
        await reader.read(100)
        writer.write(b":")  # and no more
        writer.close()

    async def test(url: str) -> None:
        connection = await connect(url, "k", 1)
        with pytest.raises(ConnectionLost):
            await ask(connection, b"PING")
        with pytest.raises(ConnectionLost, match="not connected"):
            await ask(connection, b"PING")

    play(script, test, tmp_path)


def test_after_abandon_no_callback_is_called(log_server: LogServer) -> None:
    async def story() -> None:
        connection = await connect(log_server.url, "k", 1)
        got: list[Reply] = []
        connection.call(encode([b"PING"]), got.append)
        connection.abandon()
        await asyncio.sleep(0.05)
        assert got == []

    asyncio.run(story())


def test_a_server_that_loads_its_data_is_not_connected_to(tmp_path: Path) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(100):
            writer.write(b"-LOADING Redis is loading the dataset in memory\r\n")

    async def test(url: str) -> None:
        with pytest.raises(ServerError, match=r"^LOADING"):
            await connect(url, "k", 1)

    play(script, test, tmp_path)


def test_a_moved_key_is_followed_to_its_server(tmp_path: Path) -> None:
    """One hop of a Redis Cluster; the server that the key has moved to is asked too."""
    seen: list[bytes] = []

    async def test() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            port = writer.get_extra_info("sockname")[1]
            while data := await reader.read(1000):
                seen.append(data)
                writer.write(b":0\r\n" if port == ports[1] else b"-MOVED 7 127.0.0.1:%d\r\n" % ports[1])

        servers = [await asyncio.start_server(answer, "127.0.0.1", 0) for _ in range(2)]
        ports = [server.sockets[0].getsockname()[1] for server in servers]
        connection = await connect(f"redis+cluster://127.0.0.1:{ports[0]}/3", "k", 1)
        assert connection.is_open and len(seen) == 2
        assert not any(b"SELECT" in data for data in seen)  # a cluster has one database
        connection.abandon()
        for server in servers:
            server.close()

    asyncio.run(test())


def test_of_a_cluster_the_next_server_is_asked_where_one_does_not_answer() -> None:
    """One is gone, one hangs; what the last says is believed, even that the key is on a server with no name of its
    own."""

    async def test() -> None:
        async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            port = writer.get_extra_info("sockname")[1]
            while await reader.read(1000):
                writer.write(b":0\r\n" if port == ports[2] else b"-MOVED 7 :%d\r\n" % ports[2])

        servers = [await asyncio.start_server(one, "127.0.0.1", 0) for one in (hang, answer, answer)]
        ports = [server.sockets[0].getsockname()[1] for server in servers]
        with socket.socket() as gone:
            gone.bind(("127.0.0.1", 0))
            named = [gone.getsockname()[1], ports[0], ports[1]]
            url = "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in named)
            connection = await connect(url, "k", 0.3)
            assert connection.is_open
            connection.abandon()
            with pytest.raises(TimeoutError):
                await connect(url.rpartition(",")[0], "k", 0.05)
        for server in servers:
            server.close()

    asyncio.run(test())


def test_probing_a_frozen_server_leaves_no_socket_open(log_server: LogServer) -> None:
    """Four probes a second over a long freeze would use up the process's files."""

    async def probe() -> None:
        with pytest.raises(TimeoutError):
            await connect(log_server.url, "k", 0.05)

    log_server.freeze()
    try:

        async def probes() -> None:
            await probe()
            before = open_sockets()
            for _ in range(5):
                await probe()
            await asyncio.sleep(0.01)
            assert open_sockets() <= before

        asyncio.run(probes())
    finally:
        log_server.thaw()


def open_sockets() -> int:
    return sum("socket:" in str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink())


def test_no_server_is_an_error_at_once(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for url in (f"unix://{tmp_path}/none", f"redis://127.0.0.1:{port}"):
        with pytest.raises(OSError):
            asyncio.run(connect(url, "k", 1))


@pytest.mark.parametrize("data", [b"\r\n", b"$-3\r\n", b"$-7\r\n", b"*2\r\n$-2\r\n:1\r\n"])
def test_what_no_server_says_is_an_error_and_ends(data: bytes) -> None:
    parsed = resp._parse(data)
    assert parsed is not None and isinstance(parsed[0], ServerError) and 0 < parsed[1] <= len(data)
