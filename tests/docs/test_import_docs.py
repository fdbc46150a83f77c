"""What the guide for merchants says about files of sales is what the code does. (Its commands run in test_docs.py.)"""

import ast

from console.import_mapping import CONSTANTS, KEYS, read_mapping
from tests.docs.documents import ROOT, blocks, named, rows, text_of

HEADING = "## Offline sales, from a file"
OF_ALL_REPORTS = {"amount_malformed", "ts_malformed", "conversion_conflict"}


def test_every_key_of_a_mapping_is_described() -> None:
    described = {row[0].strip("`"): row[1] for row in rows(text_of("merchants"), HEADING)}
    assert set(described) == {*KEYS, "[columns]", "[constants]"}
    assert set(named(described["[constants]"])) == set(CONSTANTS)


def test_every_error_code_of_a_row_is_described() -> None:
    codes = {
        call.args[1].value
        for path in ROOT.glob("console/import_*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "FieldError"
        if isinstance(call.args[1], ast.Constant)
    }
    behind = "Beside the [codes of all reports](#errors), a row may be refused with one of these:"
    described = {row[0].strip("`") for row in rows(text_of("merchants"), behind)}
    assert len(described) > 3 and described == codes - OF_ALL_REPORTS


def test_the_mapping_in_the_guide_is_one() -> None:
    [block] = [block for block in blocks(ROOT / "docs" / "merchants.md", "toml") if "# till.toml" in block.text]
    mapping = read_mapping(block.text, "till.toml")
    assert mapping.columns["Karte"] == "coupon" and mapping.time is not None and mapping.ignore == {"Kasse"}
