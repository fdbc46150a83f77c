"""Attribution over files: it agrees with the Python rule, and says what it could not read."""

import csv
import gzip
import json
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import clickhouse_connect
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attribution import files
from attribution.cases import read_case
from attribution.credit import Touch, decide
from attribution.files import Question, Summary, attribute, engine_settings
from schemas.durations import format_duration, parse_duration
from schemas.problems import FileError
from schemas.terms import terms_at
from tests.attribution import file_cases
from tests.attribution.file_cases import NOW, FileCase, Terms, expected_rows, write_files, write_lines

CASES = Path(__file__).parent / "cases"
DAY = 86_400_000


@pytest.fixture(scope="module")
def engine(engine_dsn: str) -> Iterator[Any]:
    """A client in an empty database, with the settings that `attribute` asks for."""
    holder = clickhouse_connect.get_client(dsn=engine_dsn)
    holder.command("CREATE DATABASE files")
    client = clickhouse_connect.get_client(
        dsn=engine_dsn, database="files", settings=engine_settings(600_000_000, cores=2)
    )
    yield client
    client.close()
    holder.command("DROP DATABASE files")
    holder.close()


class Asked:
    """An answer: its rows, its sums, and what was said meanwhile."""

    def __init__(self, rows: list[dict[str, Any]], summary: Summary, said: list[str]) -> None:
        self.rows, self.summary, self.said = rows, summary, said

    @property
    def affiliates(self) -> list[str | None]:
        return [row["affiliate"] for row in self.rows]


Ask = Callable[..., Asked]


@pytest.fixture
def ask(engine: Any, tmp_path: Path) -> Ask:
    """Asks of two files; the tables are emptied after each answer."""
    numbers = count()

    def ask(clicks: Path, sales: Path, output: str = "answer.jsonl", **asked: Any) -> Asked:
        folder = tmp_path / f"asked{next(numbers)}"
        folder.mkdir()
        links = folder / "links"
        links.mkdir()
        said: list[str] = []
        try:
            summary = attribute(
                engine, Question(clicks, sales, **asked), folder / output, links, said.append, said.append
            )
        finally:
            for name in ("sales", "clicks", "heavy", "credits"):
                engine.command(f"DROP TABLE IF EXISTS file_{name}")
        return Asked(_read(folder / output), summary, said)

    return ask


def _read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return rows
    text = (gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()).decode()
    if ".csv" in path.name:
        return [{name: value or None for name, value in row.items()} for row in csv.DictReader(text.splitlines())]
    return [json.loads(line) for line in text.splitlines()]


def click(visitor: str = "v", ts: Any = NOW - DAY, affiliate: str = "alice", **more: Any) -> dict[str, Any]:
    return {"visitor": visitor, "ts": ts, "affiliate": affiliate, **more}


def sale(visitor: str = "v", ts: Any = NOW, order_id: str = "o1", **more: Any) -> dict[str, Any]:
    return {"visitor": visitor, "ts": ts, "order_id": order_id, **more}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows in the format of the file's extension."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif ".csv" in path.name:
        names = list(dict.fromkeys(name for row in rows for name in row))
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(rows)
    else:
        write_lines(path, rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(path.read_bytes()))
    return path


@pytest.fixture
def two(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Writes a file of clicks and one of sales."""

    def two(clicks: list[dict[str, Any]], sales: list[dict[str, Any]], suffix: str = "jsonl") -> tuple[Path, Path]:
        return write(tmp_path / f"clicks.{suffix}", clicks), write(tmp_path / f"sales.{suffix}", sales)

    return two


# It agrees with the Python rule


@pytest.mark.parametrize("explain", [False, True])
@pytest.mark.parametrize("rule", ["last_cookie", "first_cookie"])
def test_random_cases_agree_with_the_python_rule(ask: Ask, tmp_path: Path, rule: str, explain: bool) -> None:
    """Some 24,000 sales in the four of them; `python -m tests.attribution.file_cases` draws without end."""
    random = Random(f"{rule}{explain}")
    terms = Terms(rule, "1m", "2s")
    cases = [file_cases.draw_case(random, f"p{number}") for number in range(2500)]
    asked = ask(*write_files(cases, tmp_path, random), rule=rule, explain=explain, window=60_000, view_window=2000)
    assert asked.rows == expected_rows(cases, terms, explain)
    assert len(asked.rows) > 5000


@pytest.mark.parametrize("buckets", [1, 7])
def test_visitors_with_many_sales_get_the_same_by_sorting_and_merging(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, buckets: int
) -> None:
    """Every sale by the way that only visitors with very many usually go, and by pairs in several buckets."""
    monkeypatch.setattr(files, "SALES_PER_KEY_MAX", 0 if buckets == 1 else 16)
    monkeypatch.setattr(files, "_BYTES_PER_SALE", 1 if buckets == 1 else 1_000_000)
    random = Random(buckets)
    for terms in (Terms("last_cookie", "1m", "2s"), Terms("first_cookie", "1m", "2s")):
        cases = [file_cases.draw_case(random, f"p{number}") for number in range(1500)]
        asked = ask(*write_files(cases, tmp_path, random), rule=terms.rule, window=60_000, view_window=2000)
        assert asked.rows == expected_rows(cases, terms, explain=False)


def _vectors() -> Iterator[Any]:
    for path in sorted(CASES.glob("*.jsonl")):
        for line in path.read_text("utf-8").splitlines():
            yield read_case(json.loads(line))


def _reduced(case: Any, program: str) -> tuple[FileCase, Terms]:
    """What files can say of a case: unflagged touches, one visitor, the rule and the windows in force at the sale."""
    terms = terms_at(case.terms, case.sale.ts)
    touches = [
        touch._replace(program=f"{program}/{touch.program}", flags=frozenset(), link="")
        for touch in case.touches
        if not touch.flags and touch.visitor and touch.affiliate and touch.click_id
    ]
    sale = case.sale._replace(
        order_id=program,
        program=f"{program}/{case.sale.program}",
        goal="sale",
        visitors=tuple(visitor for visitor in case.sale.visitors if visitor)[:1],
        click_ids=(),
        customer_id=None,
        coupons=(),
        channel=None,
    )
    lengths = {name: format_duration(getattr(terms, name)) for name in ("window", "view_window")}
    return FileCase(touches, [sale]), Terms(terms.rule, **lengths)


def test_every_vector_agrees_as_far_as_files_can_express_it(ask: Ask, tmp_path: Path) -> None:
    """Each is cut down to what files can say; what nothing had to be cut from must give what the vector expects."""
    by_terms: dict[Terms, list[FileCase]] = {}
    whole = 0
    for number, case in enumerate(_vectors()):
        reduced, terms = _reduced(case, f"case{number}")
        by_terms.setdefault(terms, []).append(reduced)
        credit = decide(
            case.sale, case.touches, case.terms, case.affiliates, case.coupons, case.identities, case.credited
        )
        (row,) = expected_rows([reduced], terms, explain=False)
        whole += (row["affiliate"], row["click_id"]) == (credit.affiliate, credit.click_id)
    for terms, cases in by_terms.items():
        lengths = {name: parse_duration(getattr(terms, name)) for name in ("window", "view_window")}
        asked = ask(*write_files(cases, tmp_path, Random(0)), rule=terms.rule, explain=True, **lengths)
        assert asked.rows == expected_rows(cases, terms, explain=True)
    assert sum(map(len, by_terms.values())) == 559
    assert whole > 250


@pytest.mark.parametrize("rule", ["last_cookie", "first_cookie"])
def test_ties_without_click_id_go_by_the_order_in_the_file(ask: Ask, tmp_path: Path, rule: str) -> None:
    """Later wins for last_cookie, earlier for first: as if the line were the click's id. By pairs and by merging."""
    random = Random(rule)
    rows = [
        click(random.choice("stuvw"), NOW - random.choice((0, 1, 2)), random.choice(("alice", "bob", "carol")))
        for _ in range(200)
    ]
    touches = [Touch(f"{number:04}", row["ts"], row["affiliate"], row["visitor"]) for number, row in enumerate(rows)]
    sales = [sale(visitor, NOW - late, f"{visitor}{late}") for visitor in "stuv" for late in range(3)] + [
        sale("w", NOW - number % 3, f"many{number}") for number in range(40)
    ]
    paths = write(tmp_path / "clicks.csv", rows), write(tmp_path / "sales.csv", sales)
    case = FileCase(touches, [file_cases.Sale(one["order_id"], one["ts"], visitors=(one["visitor"],)) for one in sales])
    expected = expected_rows([case], Terms(rule, "30d", "0s"), explain=False)
    assert ask(*paths, rule=rule).affiliates == [row["affiliate"] for row in expected]
    assert all(row["click_id"] is None for row in ask(*paths, rule=rule).rows)


def test_one_visitor_with_all_clicks_and_all_sales_takes_no_longer_than_sorting(ask: Ask, two: Any) -> None:
    """100,000 clicks and 50,000 sales of one visitor would be five thousand million pairs."""
    clicks = [click(ts=NOW + 10 * number, affiliate=f"a{number % 7}") for number in range(100_000)]
    sales = [sale(ts=NOW + 20 * number + 5, order_id=f"o{number}") for number in range(50_000)]
    asked = ask(*two(clicks, sales))
    assert asked.affiliates == [f"a{2 * number % 7}" for number in range(50_000)]


# Formats


@pytest.mark.parametrize("suffix", ["jsonl", "ndjson", "csv", "parquet", "jsonl.gz", "csv.gz"])
def test_every_format_gives_the_same(ask: Ask, two: Any, suffix: str) -> None:
    clicks = [click(click_id="c,1"), click(ts=NOW - 1, affiliate='b"ob', click_id="é"), click("w", kind="soft")]
    sales = [sale(amount="1.50"), sale("nobody", NOW, "o2"), sale("w", NOW, "o3")]
    asked = ask(*two(clicks, sales, suffix))
    assert [(row["order_id"], row["affiliate"], row["click_id"], row["ts_click"]) for row in asked.rows] == [
        ("o1", 'b"ob', "é", NOW - 1),
        ("o2", None, None, None),
        ("o3", "alice", None, NOW - DAY),
    ]
    assert asked.summary == Summary(sales=3, sales_without_visitor=0, credited=2, skipped=0)
    assert asked.said[0].endswith(": ts is epoch milliseconds")
    assert asked.said[1].endswith(": ts is epoch milliseconds; not used: amount")


@pytest.mark.parametrize("output", ["a.jsonl", "a.csv"])
def test_no_cell_of_a_csv_is_a_formula(ask: Ask, two: Any, output: str) -> None:
    """A spreadsheet would run it; what is not for spreadsheets stays as it is."""
    orders = [f"{first}1+1" for first in "=+-@\t＝"]
    sales = [sale("v1", NOW, order) for order in orders]
    rows = ask(*two([click("v1", affiliate="=a", click_id="-c")], sales), output).rows
    mark = "'" if output == "a.csv" else ""
    assert [row["order_id"] for row in rows] == [mark + order for order in orders]
    assert {(row["affiliate"], row["click_id"]) for row in rows} == {(f"{mark}=a", f"{mark}-c")}


@pytest.mark.parametrize("output", ["a.jsonl", "a.ndjson", "a.csv", "a.parquet", "a.jsonl.gz", "a.csv.gz"])
@pytest.mark.parametrize("explain", [False, True])
def test_the_answer_comes_in_every_format(ask: Ask, two: Any, output: str, explain: bool) -> None:
    rows = ask(*two([click(click_id="c1")], [sale(), sale("nobody", NOW, "o2")]), output, explain=explain).rows
    assert [(row["order_id"], row["affiliate"], row["click_id"]) for row in rows] == [
        ("o1", "alice", "c1"),
        ("o2", None, None),
    ]
    assert [row["ts_click"] and int(row["ts_click"]) for row in rows] == [NOW - DAY, None]
    assert list(rows[0]) == ["order_id", "affiliate", "click_id", "ts_click", *(["candidates"] if explain else [])]
    if explain:
        found = [json.loads(row["candidates"]) if ".csv" in output else row["candidates"] for row in rows]
        won = {"click_id": "c1", "affiliate": "alice", "ts": NOW - DAY, "kind": "click", "reason": "WON"}
        assert found == [[won], []]


def test_numbers_do_for_ids_in_every_format(ask: Ask, two: Any) -> None:
    for suffix in ("jsonl", "csv", "parquet"):
        asked = ask(*two([click(7, click_id=70), click(8, ts=NOW, click_id=80)], [sale(7, order_id=1)], suffix))  # type: ignore[arg-type]
        assert [(str(row["order_id"]), str(row["click_id"])) for row in asked.rows] == [("1", "70")], suffix


def test_a_name_that_looks_like_a_pattern_is_a_name(ask: Ask, tmp_path: Path) -> None:
    clicks, sales = (
        write(tmp_path / "c*{1,2}'?.jsonl", [click()]),
        write(tmp_path / "s\\.jsonl", [sale()]),
    )
    assert ask(clicks, sales).affiliates == ["alice"]


def test_a_byte_order_mark_and_carriage_returns_are_no_part_of_the_data(ask: Ask, tmp_path: Path) -> None:
    clicks, sales = tmp_path / "clicks.csv", tmp_path / "sales.jsonl"
    clicks.write_bytes(f"\ufeffvisitor,ts,affiliate\r\nv,{NOW},alice\r\n\r\n,,\r\n".encode())
    sales.write_bytes(f'\ufeff{{"visitor":"v","ts":{NOW},"order_id":"o1"}}\r\n\r\n'.encode())
    asked = ask(clicks, sales)
    assert asked.affiliates == ["alice"]
    assert not any("not used" in text for text in asked.said)


def test_empty_files_have_an_empty_answer(ask: Ask, tmp_path: Path) -> None:
    for name in ("clicks.jsonl", "sales.jsonl"):
        (tmp_path / name).touch()
    assert ask(tmp_path / "clicks.jsonl", tmp_path / "sales.jsonl").rows == []


def test_sales_of_no_known_visitor_are_nobody_s_and_counted(ask: Ask, two: Any) -> None:
    """Most shops have them; two of no visitor are not one visitor."""
    for suffix in ("jsonl", "csv", "parquet"):
        asked = ask(*two([click()], [sale(""), sale(order_id="o2"), {**sale(order_id="o3"), "visitor": None}], suffix))
        assert asked.affiliates == [None, "alice", None]
        assert asked.summary.sales_without_visitor == 2


def test_a_program_must_match_where_the_files_have_it(ask: Ask, two: Any) -> None:
    clicks = [click(program="p"), click(ts=NOW - 1, affiliate="bob", program="q")]
    sales = [sale(program="p"), sale(program="q", order_id="o2"), sale(program="r", order_id="o3")]
    assert ask(*two(clicks, sales)).affiliates == ["alice", "bob", None]


# Times


TIMES = [
    (NOW, "epoch milliseconds", NOW, NOW),
    (str(NOW), "epoch milliseconds", NOW, NOW),
    (NOW // 1000, "epoch seconds", NOW, NOW + 999),
    (f"{NOW // 1000}.0", "epoch seconds", NOW, NOW + 999),
    ("2026-01-01T00:00:00Z", "RFC 3339", NOW, NOW + 999),
    ("2026-01-01t00:00:00z", "RFC 3339", NOW, NOW + 999),
    ("2026-01-01 01:30:00+01:30", "RFC 3339", NOW, NOW + 999),
    ("2025-12-31T18:00:00-06:00", "RFC 3339", NOW, NOW + 999),
    ("2026-01-01T00:00:00.0Z", "RFC 3339", NOW, NOW),
    ("2026-01-01T00:00:00.1239+00:00", "RFC 3339", NOW + 123, NOW + 123),
    ("2024-02-29T23:59:59.999Z", "RFC 3339", 1709251199999, 1709251199999),
]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize(("written", "unit", "as_click", "as_sale"), TIMES)
def test_a_time_is_recognised_and_a_whole_second_is_the_start_for_a_click_the_end_for_a_sale(
    ask: Ask, tmp_path: Path, suffix: str, written: Any, unit: str, as_click: int, as_sale: int
) -> None:
    """A touch in the sale's own millisecond counts, one a millisecond later does not."""
    written = [{"visitor": "v", "ts": written, "affiliate": "alice", "order_id": "o1"}]
    one = write(tmp_path / f"one.{suffix}", written)
    asked = ask(one, write(tmp_path / "sales.jsonl", [sale(ts=as_click), sale(ts=as_click - 1, order_id="o2")]))
    assert asked.said[0] == f"{one}: ts is {unit}; not used: order_id"
    assert asked.affiliates == ["alice", None]
    assert asked.rows[0]["ts_click"] == as_click
    clicks = write(tmp_path / "clicks.jsonl", [click(ts=as_sale), click(ts=as_sale + 1, affiliate="bob")])
    assert ask(clicks, one).affiliates == ["alice"]


@pytest.mark.parametrize("type_", [pa.timestamp("ms"), pa.timestamp("us", "UTC"), pa.timestamp("ns", "Europe/Vienna")])
def test_timestamps_of_parquet_are_times_to_the_millisecond(ask: Ask, tmp_path: Path, type_: Any) -> None:
    scale = {"ms": 1, "us": 1000, "ns": 1_000_000}[type_.unit]
    times = pa.array([(NOW + 1) * scale], pa.int64()).cast(type_)
    pq.write_table(pa.table({"visitor": ["v"], "ts": times, "affiliate": ["alice"]}), tmp_path / "clicks.parquet")
    sales = write(tmp_path / "sales.jsonl", [sale(ts=NOW + 1), sale(ts=NOW, order_id="o2")])
    asked = ask(tmp_path / "clicks.parquet", sales)
    assert asked.said[0].endswith("ts is timestamps")
    assert asked.affiliates == ["alice", None]
    assert asked.rows[0]["ts_click"] == NOW + 1


def test_numbers_that_a_data_frame_made_floats_are_times(ask: Ask, two: Any) -> None:
    assert ask(*two([click(ts=float(NOW))], [sale(ts=float(NOW))], "parquet")).affiliates == ["alice"]


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
@pytest.mark.parametrize(
    "written", [NOW // 1000, "2026-01-01T00:00:00Z", str(NOW // 1000)], ids=["seconds", "RFC 3339", "text"]
)
def test_times_in_mixed_units_are_refused_even_where_bad_rows_may_be_skipped(
    ask: Ask, two: Any, suffix: str, written: Any
) -> None:
    paths = two([click(), click(), click(ts=written)], [sale()], suffix)
    with pytest.raises(FileError, match=r"clicks\.\w+:[34]: ts: .* another unit .* epoch milliseconds"):
        ask(*paths, skip_bad=True)


def test_mixed_units_in_parquet_are_refused(ask: Ask, two: Any) -> None:
    with pytest.raises(FileError, match=r"sales.parquet: row 2 \(row group 1 of 1\): ts: .* another unit"):
        ask(*two([click()], [sale(), sale(ts=NOW // 1000)], "parquet"), skip_bad=True)


# Bad input


BAD_CLICKS = [
    ({"ts": NOW, "affiliate": "bob"}, "visitor: missing"),
    ({"visitor": "", "ts": NOW, "affiliate": "bob"}, "visitor: missing"),
    ({"visitor": "v", "ts": NOW}, "affiliate: missing"),
    ({"visitor": "v", "affiliate": "bob"}, "ts: missing"),
    (click(ts="yesterday"), "ts: 'yesterday' is neither"),
    (click(ts="2026-01-01T00:00:00"), "ts: '2026-01-01T00:00:00' is neither"),
    (click(ts="2026-02-30T00:00:00Z"), "is neither"),
    (click(ts="2026-01-01T25:00:00Z"), "is neither"),
    (click(ts="2026-01-00T00:00:00Z"), "is neither"),
    (click(ts="2026-13-01T00:00:00Z"), "is neither"),
    (click(ts="2026-01-01"), "is neither"),
    (click(ts=NOW * 1000), "is neither"),
    (click(ts=0), "ts: '0' is neither"),
    (click(ts=f"{NOW}.5"), "is neither"),
    (click(kind="banner"), "kind: 'banner' is none of click, soft, view"),
    (click(program="p"), "program: given on some rows but not on others"),
]


@pytest.mark.parametrize(
    ("suffix", "bad", "words"),
    [
        (suffix, bad, words)
        for suffix in ("jsonl", "csv")
        for bad, words in BAD_CLICKS
        if suffix == "jsonl" or "program" not in bad  # a column of CSV is there on every row
    ],
)
def test_a_row_that_can_t_be_read_is_named_with_its_line_and_skipped_only_on_request(
    ask: Ask, tmp_path: Path, suffix: str, bad: dict[str, Any], words: str
) -> None:
    paths = (
        write(tmp_path / f"clicks.{suffix}", [click(), bad, click(ts=NOW - 1, affiliate="carol")]),
        write(tmp_path / "sales.jsonl", [sale()]),
    )
    line = 2 if suffix == "jsonl" else 3
    with pytest.raises(FileError) as raised:
        ask(*paths)
    assert str(raised.value).startswith(f"{paths[0]}:{line}: ")
    assert words in str(raised.value)
    asked = ask(*paths, skip_bad=True)
    assert asked.affiliates == ["carol"]
    assert asked.summary.skipped == 1
    assert any(text.startswith(f"skipped: {paths[0]}:{line}: ") for text in asked.said)


BAD_SALES = [
    ({"visitor": "v", "ts": NOW}, "order_id: missing"),
    ({"visitor": "v", "order_id": "o"}, "ts: missing"),
    (sale(ts="?"), "ts: '?' is neither"),
]


@pytest.mark.parametrize(("bad", "words"), BAD_SALES)
def test_a_sale_that_can_t_be_read_is_named_and_left_out_of_the_answer(
    ask: Ask, two: Any, bad: dict[str, Any], words: str
) -> None:
    paths = two([click()], [sale(), bad, sale(order_id="o3")])
    with pytest.raises(FileError, match=r"sales\.jsonl:2: ") as raised:
        ask(*paths)
    assert words in str(raised.value)
    assert [row["order_id"] for row in ask(*paths, skip_bad=True).rows] == ["o1", "o3"]


@pytest.mark.parametrize(
    "torn",
    ['{"visitor": "v", "ts": 17672', "not json", "[1, 2]", '"text"', '{"a": 1} {"b": 2}', '{"visitor": "\\ud8"}'],
)
def test_a_line_that_is_no_json_object_is_named(ask: Ask, tmp_path: Path, torn: str) -> None:
    clicks = tmp_path / "clicks.jsonl"
    clicks.write_text(f"{json.dumps(click())}\n\n{torn}\n{json.dumps(click(affiliate='bob'))}\n")
    sales = write(tmp_path / "sales.jsonl", [sale()])
    with pytest.raises(FileError, match=r"clicks.jsonl:3: not one JSON object"):
        ask(clicks, sales)
    assert ask(clicks, sales, skip_bad=True).affiliates == ["bob"]


def test_lines_of_csv_are_counted_over_texts_of_several_lines_and_torn_rows(ask: Ask, tmp_path: Path) -> None:
    clicks = tmp_path / "clicks.csv"
    rows = [
        "visitor,ts,affiliate,note",
        f'v,{NOW},alice,"three\nlines\nlong"',
        "",
        f'"v"x,{NOW},alice,torn',
        f"v,{NOW},,",
        f"v,{NOW},alice,a,b,c",
        f'v,{NOW},bob,"two\nlines"',
        f'v,{NOW},"al"ice,torn',
        "v,soon,alice,",
    ]
    clicks.write_text("\n".join(rows) + "\n")
    sales = write(tmp_path / "sales.csv", [sale()])
    with pytest.raises(FileError) as raised:
        ask(clicks, sales)
    assert [problem.line for problem in raised.value.problems] == [6, 7, 8, 11, 12]
    assert "affiliate: missing" in str(raised.value.problems[1])
    asked = ask(clicks, sales, skip_bad=True)
    assert asked.affiliates == ["bob"]
    assert asked.summary.skipped == 5


def test_a_quote_that_is_never_closed_is_refused(ask: Ask, tmp_path: Path) -> None:
    """Everything behind it would be one text: no telling how many rows were lost."""
    clicks = tmp_path / "clicks.csv"
    clicks.write_text(f'visitor,ts,affiliate,note\nv,{NOW},alice,"open\nv,{NOW},bob,\n')
    with pytest.raises(FileError, match="never closed"):
        ask(clicks, write(tmp_path / "sales.csv", [sale()]), skip_bad=True)


def test_text_that_is_not_utf_8_is_named(ask: Ask, tmp_path: Path) -> None:
    for suffix, line in (("csv", b"v,%d,\xff\n"), ("jsonl", b'{"visitor":"v","ts":%d,"affiliate":"\xff"}\n')):
        clicks = write(tmp_path / f"clicks.{suffix}", [click()])
        clicks.write_bytes(clicks.read_bytes() + line % NOW)
        with pytest.raises(FileError, match=r":[23]: not one JSON object, .* or not UTF-8"):
            ask(clicks, write(tmp_path / "sales.jsonl", [sale()]))


def test_parquet_names_the_row_and_its_group(ask: Ask, tmp_path: Path) -> None:
    clicks = tmp_path / "clicks.parquet"
    pq.write_table(pa.Table.from_pylist([*[click()] * 5, {**click(), "affiliate": None}, click(ts=None)]), clicks, 3)
    with pytest.raises(FileError) as raised:
        ask(clicks, write(tmp_path / "sales.jsonl", [sale()]))
    assert str(raised.value).splitlines() == [
        f"{clicks}: row 6 (row group 2 of 3): affiliate: missing",
        f"{clicks}: row 7 (row group 3 of 3): ts: missing",
    ]


def test_of_many_bad_rows_the_first_are_shown_and_the_rest_counted(ask: Ask, two: Any) -> None:
    paths = two([click(), *[click(kind="?")] * 100], [sale(), *[sale(ts="?")] * 100])
    with pytest.raises(FileError) as raised:
        ask(*paths)
    lines = str(raised.value).splitlines()
    assert len(lines) == 41
    assert "160 more" in str(raised.value)


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_missing_columns_are_named_with_what_was_found(ask: Ask, two: Any, suffix: str) -> None:
    clicks = [{"visitor_id": "v", "ts": NOW, "partner": "alice"}]
    with pytest.raises(FileError, match=r"clicks without visitor, affiliate; found: .*visitor_id.*\(accepted: visitor"):
        ask(*two(clicks, [sale()], suffix))


def test_a_program_in_one_of_the_files_alone_is_refused(ask: Ask, two: Any) -> None:
    with pytest.raises(FileError, match=r"sales.jsonl: no program, but .*clicks.jsonl has"):
        ask(*two([click(program="p")], [sale()]))
    with pytest.raises(FileError, match=r"clicks.csv: no program, but .*sales.csv has"):
        ask(*two([click()], [sale(program="p")], "csv"))


def test_a_parquet_column_that_is_no_text_or_no_time_is_named(ask: Ask, two: Any) -> None:
    with pytest.raises(FileError, match=r"affiliate: a column of type Array\(Nullable\(String\)\) is no text"):
        ask(*two([click(affiliate=["alice"])], [sale()], "parquet"))  # type: ignore[arg-type]
    with pytest.raises(FileError, match=r"ts: a column of type .*Bool.* holds no times"):
        ask(*two([click(ts=True)], [sale()], "parquet"))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("clicks.parquet", b"PAR1 this is none", "can't be read: "),
        ("clicks.csv", b"", "can't be read: "),
        ("clicks.csv", b"visitor,visitor,ts,affiliate\n", "can't be read: "),
        ("clicks.csv.gz", b"no gzip", "can't be read: "),
        ("clicks.txt", b"", r"no format that can be read \(accepted: .jsonl"),
        ("clicks.parquet.gz", b"", "no format that can be read"),
        ("clicks", b"", "no format that can be read"),
    ],
)
def test_a_file_that_can_t_be_used_is_refused(ask: Ask, tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileError, match=words) as raised:
        ask(tmp_path / name, write(tmp_path / "sales.jsonl", [sale()]))
    assert "links" not in str(raised.value)


def test_a_file_that_is_not_there_is_named(ask: Ask, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"nowhere.csv: no such file$"):
        ask(tmp_path / "nowhere.csv", tmp_path / "sales.csv")
