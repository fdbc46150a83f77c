"""Random pairs of files, dense in ties and boundaries, and what the Python rule makes of them.

`python -m tests.attribution.file_cases [--cases N] [--seed S]` is the fuzz target: it goes on for as many cases as it
is told, round by round, and stops at the first difference with the seed that shows it again.
"""

import argparse
import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import clickhouse_connect

from attribution.credit import Credit, Sale, Touch, decide
from attribution.files import Question, attribute, engine_settings
from schemas.durations import parse_duration
from schemas.terms import parse_versions

NOW = 1_767_225_600_000
AFFILIATES = ("alice", "bob", "carol", "é")
CLICK_IDS = ("c1", "c2", "c10", "C1", "c", "é", "𝒜", "ÿ", "c1\x7f", "a b", '"q,', "z" * 40)
LENGTHS = ("0s", "1s", "2s", "1m")
AGES = (-1, 0, 1, 999, 1000, 1001, 1999, 2000, 2001, 59_999, 60_000)


class Terms(NamedTuple):
    """What can be asked of files."""

    rule: str
    window: str
    view_window: str


class FileCase(NamedTuple):
    """Touches and sales of one program; every sale is a case of the rule."""

    touches: list[Touch]
    sales: list[Sale]


def draw_terms(random: Random) -> Terms:
    return Terms(random.choice(("last_cookie", "first_cookie")), random.choice(LENGTHS), random.choice(LENGTHS))


def draw_case(random: Random, program: str) -> FileCase:
    """Few visitors and few times; now and then a visitor with more sales than are paired."""
    click_ids = random.sample(CLICK_IDS, random.randint(0, 7))
    touches = [
        Touch(
            click_id,
            NOW - random.choice(AGES),
            random.choice(AFFILIATES),
            random.choice("vw"),
            random.choice(("click", "click", "soft", "view")),
            program=program,
        )
        for click_id in click_ids
    ]
    count = random.choice((1, 1, 1, 2, 3)) if random.random() < 0.98 else 40
    visitors = [random.choice(((), ("v",), ("v",), ("v",), ("w",))) for _ in range(count)]
    if count == 40:
        visitors = [("v",)] * count
    sales = [
        Sale(f"{program}-{number}", NOW + random.choice((-1000, 0, 0, 0, 1)), program, visitors=visitor)
        for number, visitor in enumerate(visitors)
    ]
    return FileCase(touches, sales)


def judge(case: FileCase, terms: Terms) -> Iterator[Credit]:
    """What the Python rule says of each sale."""
    versions = parse_versions(terms._asdict())
    for sale in case.sales:
        yield decide(sale, case.touches, versions, {}, {}, {}, ())


def expected_rows(cases: Iterable[FileCase], terms: Terms, explain: bool) -> list[dict[str, Any]]:
    """The answer as `attribute` should write it."""
    rows = []
    for case in cases:
        for sale, credit in zip(case.sales, judge(case, terms), strict=True):
            won = next((one.touch for one in credit.candidates if one.reason == "WON"), None)
            row: dict[str, Any] = {
                "order_id": sale.order_id,
                "affiliate": credit.affiliate,
                "click_id": credit.click_id,
                "ts_click": None if won is None else won.ts,
            }
            if explain:
                row["candidates"] = [
                    {
                        "click_id": one.touch.click_id,
                        "affiliate": one.touch.affiliate,
                        "ts": one.touch.ts,
                        "kind": one.touch.kind,
                        "reason": str(one.reason),
                    }
                    for one in credit.candidates
                ]
            rows.append(row)
    return rows


def write_files(cases: Iterable[FileCase], folder: Path, random: Random) -> tuple[Path, Path]:
    """The cases as two files of JSON lines; the clicks in any order."""
    clicks, sales = [], []
    for case in cases:
        clicks += [
            {
                "visitor": touch.visitor,
                "ts": touch.ts,
                "affiliate": touch.affiliate,
                "click_id": touch.click_id,
                "kind": touch.kind,
                "program": touch.program,
            }
            for touch in case.touches
        ]
        sales += [
            {"visitor": "".join(sale.visitors), "ts": sale.ts, "order_id": sale.order_id, "program": sale.program}
            for sale in case.sales
        ]
    random.shuffle(clicks)
    return write_lines(folder / "clicks.jsonl", clicks), write_lines(folder / "sales.jsonl", sales)


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def answer(client: Any, folder: Path, clicks: Path, sales: Path, **asked: Any) -> list[dict[str, Any]]:
    """The rows that `attribute` writes for these files."""
    output = folder / "answer.jsonl"
    links = folder / "links"
    links.mkdir()
    attribute(client, Question(clicks, sales, **asked), output, links, lambda text: None, lambda text: None)
    return [json.loads(line) for line in output.read_text("utf-8").splitlines()]


def differences(client: Any, folder: Path, random: Random, count: int, explain: bool) -> list[Any]:
    """Draw so many cases of one terms, and compare; what differs."""
    terms = draw_terms(random)
    cases = [draw_case(random, f"p{number}") for number in range(count)]
    clicks, sales = write_files(cases, folder, random)
    lengths = {name: parse_duration(getattr(terms, name)) for name in ("window", "view_window")}
    rows = answer(client, folder, clicks, sales, rule=terms.rule, explain=explain, **lengths)
    expected = expected_rows(cases, terms, explain)
    assert len(rows) == len(expected)
    return [(terms, row, wanted) for row, wanted in zip(rows, expected, strict=True) if row != wanted]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.attribution.file_cases")
    parser.add_argument("--cases", type=int, default=1_000_000, help="sales to compare")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    compared, seed = 0, options.seed
    with tempfile.TemporaryDirectory() as engine:
        dsn = f"chdb://{engine}"
        holder = clickhouse_connect.get_client(dsn=dsn)
        while compared < options.cases:
            holder.command("CREATE DATABASE fuzz")
            client = clickhouse_connect.get_client(dsn=dsn, database="fuzz", settings=engine_settings(600_000_000, 2))
            with tempfile.TemporaryDirectory() as folder:
                found = differences(client, Path(folder), Random(seed), 20_000, explain=bool(seed % 2))
            client.close()
            holder.command("DROP DATABASE fuzz")
            if found:
                raise SystemExit(f"seed {seed}: {len(found)} differ, the first: {found[0]}")
            compared += 20_000
            seed += 1
            print(f"{compared} cases agree, seeds to {seed - 1}", flush=True)
        holder.close()


if __name__ == "__main__":
    main()
