"""The private port's end of replay: one at a time, given back whatever becomes of the asker."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import clickhouse_connect
import orjson
import pytest

from console import replays as module
from console.replays import Refused, Replays
from schemas import keys
from tests.log_server import LogServer
from tests.past import NOW, Past

LATER = NOW + 10**9


@pytest.fixture
def replays(tables: Any, engine_dsn: str, valkey: LogServer) -> Replays:
    past = Past(tables, None)
    past.program(0, {"from": 0})
    past.report(5, "o1")
    past.decided(25, "o1", sold=5)
    past._flush()

    def client(**session: Any) -> Any:
        return clickhouse_connect.get_client(dsn=engine_dsn, database=tables.database, settings=session)

    settings: Any = SimpleNamespace(
        redis=SimpleNamespace(shards=2), limits=SimpleNamespace(sql_memory=10**9, sql_threads=1)
    )
    made: Any = SimpleNamespace(client=client)
    return Replays(settings, valkey.redis, made)


def refused(open: Callable[[], Any]) -> tuple[int, str]:
    with pytest.raises(Refused) as raised:
        open()
    return raised.value.status, raised.value.code


def test_the_answer_is_lines_from_entities_to_end(replays: Replays) -> None:
    lines = [orjson.loads(line) for line in b"".join(replays.open(b"{}", LATER)).splitlines()]
    assert [line["section"] for line in lines if isinstance(line, dict)] == ["entities", "decisions", "end"]
    assert (lines[0]["decisions"], lines[1][1:3], lines[3][2]) == (1, ["program", "p"], "o1")


def test_one_replay_at_a_time_and_the_next_when_the_asker_is_gone(replays: Replays) -> None:
    """Read to the end, closed halfway, or just dropped."""
    first = replays.open(b"{}", LATER)
    assert refused(lambda: replays.open(b"{}", LATER)) == (429, "too_many_replays")
    list(first)
    second = replays.open(b"{}", LATER)
    next(second)
    second.close()  # type: ignore[attr-defined]
    third = replays.open(b"{}", LATER)
    del third
    assert refused(lambda: replays.open(b'{"program": "q"}', LATER)) == (404, "program_unknown")
    assert list(replays.open(b"{}", LATER))


def test_it_waits_until_what_is_in_the_log_is_decided_and_in_the_tables(
    replays: Replays, valkey: LogServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a click on its way would be missing, or a sale that is decided again in a moment would differ."""
    monkeypatch.setattr(module, "_LOOKS_MAX", 2)
    stream = keys.conversions(1)
    id = valkey.redis.xadd(stream, {"late": "{}"})
    assert refused(lambda: replays.open(b"{}", LATER)) == (503, "tables_behind")
    valkey.redis.hset(keys.positions(stream), "worker", id)
    assert refused(lambda: replays.open(b"{}", LATER)) == (503, "tables_behind")
    valkey.redis.hset(keys.positions(stream), "loader", id)
    assert list(replays.open(b"{}", LATER))


def test_without_a_log_server_the_tables_are_asked_as_they_are(replays: Replays, valkey: LogServer) -> None:
    replays._redis = SimpleNamespace(xrevrange=lambda *_, **__: (_ for _ in ()).throw(ConnectionError()))
    assert list(replays.open(b"{}", LATER))


def test_a_query_that_fails_is_said_in_the_answer(replays: Replays, tables: Any) -> None:
    lines = replays.open(b"{}", LATER)
    tables.command("DROP TABLE conversion_versions")
    last = orjson.loads(b"".join(lines).splitlines()[-1])
    assert last["section"] == "error" and "conversion_versions" in last["message"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "question_malformed"),
        (b"[]", 400, "question_malformed"),
        (b'{"from": "x"}', 400, "from_malformed"),
        (b'{"to": true}', 400, "to_malformed"),
        (b'{"program": 1}', 400, "program_malformed"),
        (b'{"set": {"windw": "7d"}}', 400, "terms_malformed"),
        (b'{"set": 7}', 400, "terms_malformed"),
        (b'{"as_of": 9999999999999}', 422, "as_of_ahead"),
    ],
)
def test_a_question_that_cannot_be_read_is_refused(replays: Replays, body: bytes, status: int, code: str) -> None:
    assert refused(lambda: replays.open(body, LATER)) == (status, code)
