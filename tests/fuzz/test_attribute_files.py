"""Files for `attribute`: any bytes are an answer, or a file that is refused, and never a crash."""

import csv
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from attribution.files import Question, attribute, engine_settings
from schemas.problems import FileError
from tests.fuzz.budget import examples
from tests.fuzz.hostile import damaged

CLICKS = b"visitor,ts,affiliate,click_id\nv1,1767225600000,alice,c1\nv2,1767225601000,bob,c2\n"
SALES = b"visitor,ts,order_id\nv1,1767225700000,o1\nv2,1767225701000,=o2\nv3,1767225702000,o3\n"
JSON_SALES = (
    b'{"visitor":"v1","ts":1767225700000,"order_id":"o1"}\n{"visitor":"v2","ts":1767225701000,"order_id":"o2"}\n'
)

_number = count(1)


@pytest.fixture(scope="module")
def engine(engine_dsn: str) -> Iterator[Any]:
    holder = clickhouse_connect.get_client(dsn=engine_dsn)
    holder.command("CREATE DATABASE fuzzed")
    client = clickhouse_connect.get_client(
        dsn=engine_dsn, database="fuzzed", settings=engine_settings(600_000_000, cores=2)
    )
    yield client
    client.close()
    holder.command("DROP DATABASE fuzzed")
    holder.close()


@example(CLICKS, ("sales.csv", SALES))
@settings(examples(12), suppress_health_check=list(HealthCheck))
@given(
    damaged(CLICKS, most=2),
    st.tuples(st.just("sales.csv"), damaged(SALES, most=2))
    | st.tuples(st.just("sales.jsonl"), damaged(JSON_SALES, most=2)),
)
def test_any_file_is_answered_or_refused(engine: Any, tmp_path: Path, clicks: bytes, sales: tuple[str, bytes]) -> None:
    folder = tmp_path / str(next(_number))
    (folder / "links").mkdir(parents=True)
    (folder / "clicks.csv").write_bytes(clicks)
    (folder / sales[0]).write_bytes(sales[1])
    question = Question(folder / "clicks.csv", folder / sales[0])
    try:
        attribute(engine, question, folder / "out.csv", folder / "links", lambda _: None, lambda _: None)
    except FileError as error:
        assert error.problems
        return
    finally:
        for name in ("sales", "clicks", "heavy", "credits"):
            engine.command(f"DROP TABLE IF EXISTS file_{name}")
    with (folder / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) <= sales[1].count(b"\n") + sales[1].count(b"\r") + 1
    if (clicks, sales[1]) == (CLICKS, SALES):
        assert [(row["order_id"], row["affiliate"]) for row in rows] == [("o1", "alice"), ("'=o2", "bob"), ("o3", "")]
    assert not any((cell or "").startswith(("=", "+", "-", "@")) for row in rows for cell in row.values())
