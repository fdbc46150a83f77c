"""The content of a reversal as it is kept beside the order, so that a retry is told from a contradiction. Pure."""

import orjson


def reversal_content(amount: str | None = None, items: str = "", reason: str = "") -> bytes:
    """Canonical text: equal contents are equal bytes. `amount` has four digits after the point; `items` is JSON."""
    return orjson.dumps([amount, items, reason])
