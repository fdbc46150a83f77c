"""Rows of CSV files as spreadsheets, tills and mishaps make them."""

import io
import tracemalloc
from itertools import islice
from typing import Any

import pytest

from console.import_mapping import ImportMapping
from console.import_rows import ROW_CHARACTERS_MAX, read_rows
from schemas.problems import FileError


def rows(data: bytes | str, **mapping: Any) -> list[tuple[int, Any]]:
    """Each row's line, and its parameters or the code of what is wrong with it."""
    file = io.BytesIO(data.encode() if isinstance(data, str) else data)
    found = read_rows(file, "f.csv", ImportMapping(**mapping))
    return [(row.line, row.error.code if row.error else row.params) for row in found]


def refused(data: bytes | str, **mapping: Any) -> str:
    with pytest.raises(FileError) as caught:
        rows(data, **mapping)
    return str(caught.value)


def test_columns_have_the_names_of_parameters_or_their_aliases() -> None:
    assert rows("txid,amount,program\nA, 1.50 ,shoes\nB,,\n") == [
        (2, {"order_id": "A", "amount": "1.50", "program": "shoes"}),
        (3, {"order_id": "B"}),
    ]


def test_a_mapping_names_columns_constants_and_what_to_ignore() -> None:
    mapping = {"columns": {"Bon": "order_id"}, "constants": {"currency": "EUR"}, "ignore": frozenset({"Kasse", ""})}
    assert rows("Kasse;Bon;amount;;\n3;A;1;;\n", delimiter=";", **mapping) == [
        (2, {"order_id": "A", "amount": "1", "currency": "EUR"})
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_marks_quotes_and_empty_rows_of_spreadsheets(end: str) -> None:
    lines = ['\ufeff"order_id","coupon"', "A,", "", ",", '"B, ""b""",x', '"C', 'c",y', "D,z", " , ", ""]
    assert rows(end.join(lines)) == [
        (2, {"order_id": "A"}),
        (5, {"order_id": 'B, "b"', "coupon": "x"}),
        (6, {"order_id": f"C{end}c", "coupon": "y"}),
        (8, {"order_id": "D", "coupon": "z"}),
    ]


def test_a_formula_is_text() -> None:
    assert rows('order_id\n"=HYPERLINK(""http://x"")"\n') == [(2, {"order_id": '=HYPERLINK("http://x")'})]


@pytest.mark.parametrize(
    ("encoding", "codec"), [("iso-8859-1", "latin-1"), ("windows-1252", "cp1252"), ("utf-16", "utf-16")]
)
def test_other_encodings_if_the_mapping_says_so(encoding: str, codec: str) -> None:
    assert rows("order_id\nJörg\n".encode(codec), encoding=encoding) == [(2, {"order_id": "Jörg"})]


def test_what_is_not_in_the_encoding_is_the_rows_own_problem_also_in_a_column_that_is_ignored() -> None:
    data = b"order_id,x\nA,J\xf6rg\nB,\xc3\xb6\nC,a\0b\n"
    assert rows(data, ignore=frozenset({"x"})) == [(2, "row_malformed"), (3, {"order_id": "B"}), (4, "row_malformed")]


def test_a_file_in_another_encoding_is_named() -> None:
    assert "utf-16" in refused("order_id\nA\n".encode("utf-16"))
    assert "f.csv: not utf-16" in refused(b"\xff\xfeo\0r", encoding="utf-16") or "no column" in refused(b"\xff\xfeo\0")


def test_a_row_with_too_many_or_too_few_cells_is_refused() -> None:
    assert rows("order_id,amount\nA\nB,1\nC,1,2\n") == [
        (2, "row_malformed"),
        (3, {"order_id": "B", "amount": "1"}),
        (4, "row_malformed"),
    ]


def test_quotes_that_do_not_match_within_a_row_are_its_own_problem() -> None:
    assert rows('order_id\n"A"b\nB\n') == [(2, "row_malformed"), (3, {"order_id": "B"})]
    assert rows('order_id\nA\n"B') == [(2, {"order_id": "A"}), (3, "row_malformed")]


def test_quotes_that_swallow_other_rows_are_the_files_problem() -> None:
    assert "f.csv:3:" in refused('order_id\nA\n"B\nC\nD\n')
    assert "f.csv:3:" in refused('order_id\nA\n"B\nC"D\nE\n')


def test_values_are_read_as_the_mapping_says() -> None:
    mapping = {"decimal_separator": ",", "thousands_separator": ".", "coupon_separator": "|", "delimiter": ";"}
    assert rows("order_id;amount;coupon\nA;1.234,50;x | y|\nB;1.5;\n4,01E+12;1;\n", **mapping) == [
        (2, {"order_id": "A", "amount": "1234.50", "coupon": ["x", "y"]}),
        (3, "amount_malformed"),
        (4, "order_id_cut"),
    ]


@pytest.mark.parametrize(
    ("head", "mapping", "words"),
    [
        ("order_id,amuont", {}, ('unknown column "amuont"', 'did you mean "amount"')),
        ("order_id,", {}, ('unknown column ""',)),
        ("order_id,payout", {}, ('unknown column "payout"',)),
        ("order_id,order_id", {}, ("twice",)),
        ("order_id,txid", {}, ("order_id, as is another one",)),
        ("order_id,currency", {"constants": {"currency": "EUR"}}, ("constant",)),
        ("order_id", {"columns": {"Betrag": "amount"}}, ('no column "Betrag"', '"order_id"')),
        ("order_id", {"ignore": frozenset({"order_id"})}, ("no column is order_id",)),
        ("order_id;amount", {}, ('is the delimiter ";"?',)),
        ("order_id\tamount", {}, ('is the delimiter "\\t"?',)),
        ("order_id,amount", {"delimiter": ";"}, ('is the delimiter ","?',)),
        ("amount", {}, ("no column is order_id",)),
        ("", {}, ("no column is order_id",)),
        ('"order_id', {}, ("f.csv:1",)),
        ("order_id,\x1b[31mred", {}, ("unknown column \"\N{REPLACEMENT CHARACTER}[31mred\"",)),
    ],
)  # fmt: skip
def test_columns_that_are_unclear_are_named(head: str, mapping: dict[str, Any], words: tuple[str, ...]) -> None:
    message = refused(head + "\n" if head else "", **mapping)
    assert all(word in message for word in words), message


def test_a_header_of_a_hundred_thousand_columns_is_refused_at_once() -> None:
    assert "100000 columns" in refused(",".join(f"c{number}" for number in range(100_000)) + "\n")


def test_a_name_without_end_is_shown_shortened() -> None:
    message = refused("order_id," + "x" * 100_000 + "\n")
    assert f'unknown column "{"x" * 64}"' in message and len(message) < 1000


def test_every_unclear_column_is_named_at_once() -> None:
    assert refused("a,b,amount\n").count("f.csv:1") == 3


def test_a_row_without_end_is_refused_before_it_fills_the_memory() -> None:
    class Endless(io.RawIOBase):
        def __init__(self, head: bytes, part: bytes) -> None:
            self.head, self.part = head, part

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            data, self.head = (self.head or self.part)[: len(buffer)], b""
            buffer[: len(data)] = data
            return len(data)

    for part in (b"x" * 4096, b'"",x' * 1024, b"x\n" * 2048):
        file = io.BufferedReader(Endless(b'order_id\n"', part))
        tracemalloc.start()
        with pytest.raises(FileError, match=r"f\.csv"):
            list(islice(read_rows(file, "f.csv", ImportMapping()), 10))  # type: ignore[arg-type]
        assert tracemalloc.get_traced_memory()[1] < 40 * ROW_CHARACTERS_MAX
        tracemalloc.stop()
