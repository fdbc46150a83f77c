"""Files of sales: any bytes are rows, each read or refused, or a file that is refused."""

import io
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from console.import_mapping import ImportMapping
from console.import_rows import read_rows
from console.spreadsheets import harmless
from schemas.problems import FileError
from tests.fuzz.budget import examples
from tests.fuzz.hostile import damaged, pieces, texts

FILE = b'order_id,amount,currency,ts\r\nA-1,49.90,EUR,1767225600\r\n"A,2",,,\r\n\r\nA-3,"1,5",EUR,x\r\n'
mappings = st.builds(ImportMapping, delimiter=st.sampled_from([",", ";", "\t", "|"]))


@examples(300)
@given(damaged(FILE) | texts.map(lambda t: FILE + t.encode("utf-8", "replace")) | st.binary(max_size=200), mappings)
def test_any_file_is_read_or_refused(data: bytes, mapping: Any) -> None:
    lines = data.count(b"\n") + data.count(b"\r") + 1
    try:
        last = 0
        for row in read_rows(io.BytesIO(data), "sales.csv", mapping):
            assert last < row.line <= lines
            last = row.line
            assert row.error is None or (row.error.status == 400 and row.error.message)
    except FileError as error:
        assert error.problems and str(error)


@examples(200)
@given(pieces | texts)
def test_no_cell_that_we_write_begins_a_formula(text: str) -> None:
    cell = harmless(text)
    assert cell[:1] not in tuple("=+-@\t\r\n＝＋－＠") and cell in (text, f"'{text}")
