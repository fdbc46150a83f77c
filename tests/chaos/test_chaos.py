"""A little of `make chaos`, and that it would see what it looks for."""

import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.__main__ import play
from tests.chaos.driver import Journal
from tests.chaos.proof import compare
from tests.chaos.proxy import DELAY_SECONDS, Proxy
from tests.chaos.world import SIZES, World


@pytest.mark.crash
@pytest.mark.parametrize("scenario", ["kills", "failpoints"])
def test_processes_that_die_lose_and_double_nothing(scenario: str, tmp_path: Path) -> None:
    """At random moments, and at the worst ones."""
    world = World(SIZES["tiny"], "suite", tmp_path)
    assert play(world, [scenario]), world.rows


class Tables:
    """Answers as a system does whose tables hold these rows."""

    def __init__(self, **rows: list[dict[str, Any]]) -> None:
        self._rows = rows

    def sql(self, query: str) -> list[dict[str, Any]]:
        table = next(name for name in ("clicks", "credits", "conversions", "refusals") if f"FROM {name}" in query)
        return self._rows.get(table, [])


def click(number: int, click_id: str = "", link: str = "boots") -> dict[str, str]:
    return {"sub1": f"r-{number}", "link": link, "click_id": click_id or f"c{number}", "visitor": "v"}


def credit(number: int, affiliate: str = "alice") -> dict[str, str]:
    return {"order_id": f"r-{number}", "affiliate": affiliate, "click_id": "c1"}


JOURNAL = Journal(
    asked_clicks={"r-1", "r-2", "r-3"},
    asked_orders={"r-7", "r-8"},
    clicks={"r-1": ("boots", "c1", "v"), "r-2": ("boots", "c2", "v")},
    orders={"r-7": ("alice", "c1")},
)
WHOLE = {"clicks": [click(1), click(2)], "credits": [credit(7)], "conversions": [{"order_id": "r-7"}]}


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ({}, {}),
        ({"clicks": [click(1), click(2), click(3)]}, {}),  # asked for, and died before it was answered
        ({"clicks": [click(1)]}, {"missing": ["r-2"]}),
        ({"credits": []}, {"missing": ["r-7"]}),
        ({"clicks": [click(1), click(2), click(9)]}, {"spurious": ["r-9"]}),
        ({"conversions": [{"order_id": "r-7"}, {"order_id": "r-9"}]}, {"spurious": ["r-9"]}),
        ({"clicks": [click(1), click(2, link="sneakers")]}, {"changed": "r-2"}),
        ({"clicks": [click(1), click(2, "c9")]}, {"changed": "r-2"}),
        ({"credits": [credit(7, "bob")]}, {"changed": "r-7"}),
        ({"clicks": [click(1), click(2), click(2)]}, {"doubled": ["c2", "r-2"]}),
        ({"credits": [credit(7), credit(7)]}, {"doubled": ["r-7"]}),
        ({"refusals": [{"refusal_id": "x"}]}, {"doubled": ["x"]}),
    ],
)
def test_what_differs_from_the_notes_is_found(rows: dict[str, Any], found: dict[str, Any]) -> None:
    left = compare("r", JOURNAL, Tables(**{**WHOLE, **rows}))  # type: ignore[arg-type]
    for name, ids in left._asdict().items():
        wanted = found.get(name, [])
        assert ids == wanted if isinstance(wanted, list) else ids[0].startswith(wanted), name


@pytest.fixture
def echo() -> Any:
    """A server that says again what it is told; what it was told."""
    told: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            try:
                while True:
                    connection, _ = listener.accept()
                    while data := connection.recv(100):
                        told.append(data)
                        connection.sendall(data)
            except OSError:
                pass

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1], told


@pytest.mark.parametrize(
    ("mode", "is_told", "answer"),
    [
        ("pass", True, b"hello"),
        ("delay", True, None),
        ("trickle", True, b"h"),
        ("blackhole", False, None),
        ("lose_replies", True, None),
        ("reset", False, b""),
        ("half_close", True, b""),
    ],
)
def test_the_proxy_does_what_its_mode_says(echo: Any, mode: Any, is_told: bool, answer: bytes | None) -> None:
    """`answer` is what comes first; None: nothing within the delay, b"": the end of the connection."""
    port, told = echo
    with Proxy(port) as proxy, socket.create_connection(("127.0.0.1", proxy.port)) as client:
        proxy.mode = mode
        client.settimeout(DELAY_SECONDS if answer is None else 10)
        client.sendall(b"hello")
        try:
            got: bytes | None = client.recv(100)
        except TimeoutError:
            got = None
        except ConnectionResetError:
            got = b""
        deadline = time.monotonic() + 10
        while not (proxy.hits and bool(told) == is_told) and time.monotonic() < deadline:
            time.sleep(0.01)  # a busy machine's proxy takes its time
        assert got == answer and bool(told) == is_told and proxy.hits
