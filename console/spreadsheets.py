"""Cells of the CSV files that we write, so that a spreadsheet takes them for text: an order id may be a formula that
somebody wants run. Pure; called by what writes CSV, but for `attribute`, which has the same in attribute_output.sql.
"""

from typing import Any

_BEGINNINGS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What a spreadsheet may take for the beginning of a formula; some read wide characters as narrow ones."""


def harmless(value: Any) -> Any:
    """The cell with an apostrophe before what could be a formula; numbers as they are."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_BEGINNINGS) else value
